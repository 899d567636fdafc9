# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What several hooks ask of a Runner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader


def unwrapped_model(runner: Runner) -> Any:
    """Return the model without what wraps it for several processes."""
    model: Any = runner.model
    return model.module if is_model_wrapper(model) else model


def epoch_length(runner: Runner) -> int | None:
    """Return the iterations of a whole epoch; None without epochs.

    The dataloader is shorter in an epoch that is being completed.
    """
    loop = runner.train_loop
    if not isinstance(loop, EpochBasedTrainLoop):
        return None
    return loop.max_iters // loop.max_epochs


def loader_of_its_own(runner: Runner) -> Any:
    """Return a loader of the training's images with a sampler of its own.

    Its order is the training's. Iterating the training's own loader would
    move what its sampler yields next; MMEngine's ``InfiniteSampler``, left
    early, would be at its end.

    Raises:
        ValueError: If the Runner's config does not say which sampler.
    """
    cfg = runner.cfg.get('train_dataloader')
    if not isinstance(cfg, Mapping):
        raise ValueError(
            "the Runner's cfg must have train_dataloader, for a second loader "
            f'of it, got {cfg!r}: build the Runner by Runner.from_cfg.'
        )
    loader = runner.train_dataloader
    trains = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    seed = getattr(trains, 'seed', runner.seed)
    sampler = DATA_SAMPLERS.build(
        cfg['sampler'], default_args=dict(dataset=loader.dataset, seed=seed)
    )
    batches: dict[str, Any] = dict(
        batch_size=loader.batch_size,
        sampler=sampler,
        drop_last=loader.drop_last,
    )
    if cfg.get('batch_sampler') is not None:
        given = dict(sampler=sampler, batch_size=cfg.get('batch_size'))
        batches = dict(
            batch_sampler=DATA_SAMPLERS.build(
                cfg['batch_sampler'], default_args=given
            )
        )
    return DataLoader(
        loader.dataset,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        **batches,
    )
