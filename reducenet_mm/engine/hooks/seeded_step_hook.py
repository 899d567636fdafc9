# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Randomness of a training step, a function of the iteration alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.device import get_device
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner

from reducenet_mm.datasets.seeded import seed_cpu_generators
from reducenet_mm.registry import HOOKS

SAMPLER_SEED = 'sampler_seed'
"""Key in the message hub, so that a resumed run knows it too."""


@HOOKS.register_module()
class SeededStepHook(Hook):
    """Seed this process's generators before each training iteration.

    Batch augmentations (mixup, cutmix), dropout and drop path then depend
    on the Runner's seed, the iteration and the rank, and on nothing that
    happened before: not on validations, on worker processes or on having
    been resumed. The generators are Python's, NumPy's and torch's, the last
    on all devices.
    """

    priority = 'HIGHEST'  # before any hook that might draw a number

    def before_train(self, runner: Runner) -> None:
        """Keep the sampler's seed for a run that resumes this one.

        MMEngine restores the Runner's own seed, but after it has built the
        sampler, and a seed that the config leaves open is another one then.
        """
        loader = runner.train_dataloader
        sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
        # MMEngine's InfiniteSampler has begun its order and keeps it.
        if not hasattr(sampler, 'seed') or isinstance(
            sampler, InfiniteSampler
        ):
            return
        hub = runner.message_hub
        saved = hub.runtime_info.get(SAMPLER_SEED, sampler.seed)
        if runner.iter > 0 and saved != sampler.seed:
            sampler.seed = saved
            fetch_anew(runner.train_loop)
        hub.update_info(SAMPLER_SEED, sampler.seed)

    def before_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | Sequence | None = None,
    ) -> None:
        """Seed Python's, NumPy's and torch's generators."""
        seed = seed_cpu_generators(
            'step', runner.seed, runner.iter, get_rank()
        )
        if get_device() != 'cpu':
            torch.manual_seed(seed)


def fetch_anew(loop: BaseLoop) -> None:
    """Drop the images that a loop has asked for before its training began.

    ``IterBasedTrainLoop`` has its iterator from the start, and with it worker
    processes that have been given the first batches of another order.
    """
    if isinstance(loop, IterBasedTrainLoop):
        iterator = type(loop.dataloader_iterator)
        loop.dataloader_iterator = iterator(loop.dataloader)
