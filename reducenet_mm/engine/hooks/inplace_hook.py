# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What an in-place training asks of its Runner."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.amp import autocast

from reducenet_mm.plain_numbers import as_number
from reducenet_mm.registry import HOOKS

from .runner_facts import unwrapped_model


@HOOKS.register_module()
class InplaceHook(Hook):
    """Tell ``InplaceDistill`` where it is; validate its teacher too.

    Before each step the algorithm learns the Runner's seed and iteration, of
    which its ramp and its sandwich are functions. The teacher trains, so
    every validation in a training also measures it and reports
    ``teacher/<metric>``.

    Raises:
        ValueError: By its hook points, if the model is another algorithm.
    """

    def __init__(self) -> None:
        self._evaluator: Evaluator | None = None  # while it validates
        self._answered = 0  # batches of this validation

    def before_train(self, runner: Runner) -> None:
        """Refuse a model that has no use for this hook."""
        self.check_fit(unwrapped_model(runner))
        self.check_settings(runner.cfg)

    def check_settings(self, cfg: Config) -> None:
        """Raise ``ValueError`` if parts would be computed again.

        Args:
            cfg: The full config.
        """
        if cfg.get('activation_checkpointing'):
            raise ValueError(
                'activation_checkpointing='
                f'{cfg.activation_checkpointing} computes modules again in '
                'the backward pass, in which the gates are the same for '
                'both networks: the teacher would get gradients of the '
                'student. Leave it out in place (InplaceDistill).'
            )

    def check_fit(self, model: Any, train_cfg: Any = None) -> None:
        """Raise ``ValueError`` if ``model`` has no use for this hook."""
        if not hasattr(model, 'set_position'):
            raise ValueError(
                "custom_hooks has dict(type='InplaceHook'), which is for "
                f"model.type='InplaceDistill', got {type(model).__name__}. "
                'Leave it out.'
            )

    def before_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | Sequence | None = None,
    ) -> None:
        """Hand on the seed and the iteration."""
        unwrapped_model(runner).set_position(
            seed=runner.seed,
            iteration=runner.iter,
            max_iters=runner.max_iters,
        )

    def before_val_epoch(self, runner: Runner) -> None:
        """Begin a validation of the teacher beside that of the model."""
        self._evaluator = copy.deepcopy(runner.val_loop.evaluator)
        self._answered = 0

    @torch.no_grad()
    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | Sequence | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Let the teacher answer the same batch, each batch once.

        MMPretrain's ``EMAHook`` with ``evaluate_on_origin`` goes through all
        of them again, in its ``after_val_epoch``: before or after ours.
        """
        if self._evaluator is None or batch_idx != self._answered:
            return
        self._answered += 1
        model = unwrapped_model(runner)
        # Heads write into the samples that they get: not into the student's.
        batch = copy.deepcopy(data_batch)
        data = model.data_preprocessor(batch, False)
        # As the loop does it, whose autocast has ended.
        with autocast(enabled=getattr(runner.val_loop, 'fp16', False)):
            answers = model.teacher(**data, mode='predict')
        self._evaluator.process(data_samples=answers, data_batch=batch)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Add the teacher's metrics to the validation's log."""
        assert self._evaluator is not None
        images = len(runner.val_dataloader.dataset)
        for name, value in self._evaluator.evaluate(images).items():
            number = as_number(value)
            if number is not None:  # some metrics are tables or texts
                hub = runner.message_hub
                hub.update_scalar(f'val/teacher/{name}', number)
        self._evaluator = None
