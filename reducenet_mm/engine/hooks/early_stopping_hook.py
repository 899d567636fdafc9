# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Early stopping that a kill does not set back."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import Runner

from reducenet_mm.registry import HOOKS

STATE = 'early_stopping'
"""Key in a checkpoint; one entry for each monitored metric."""


@HOOKS.register_module()
class ResumableEarlyStoppingHook(EarlyStoppingHook):
    """MMEngine's ``EarlyStoppingHook``, its state kept in checkpoints.

    MMEngine's own forgets the best score and how long it has been waiting
    when a run is resumed, and so trains longer. Same arguments.
    """

    # Before CheckpointHook, which may save once more after a validation:
    # that checkpoint then knows the validation's outcome.
    priority = 'LOW'

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Add the state to a checkpoint."""
        checkpoint.setdefault(STATE, {})[self.monitor] = dict(
            best_score=float(self.best_score),
            wait_count=self.wait_count,
            stopped=runner.train_loop.stop_training,
        )

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Take the state up, if the run is resumed."""
        state = checkpoint.get(STATE, {}).get(self.monitor)
        if state is None or not runner._resume:
            return
        self.best_score = state['best_score']
        self.wait_count = state['wait_count']
        if state['stopped']:
            runner.train_loop.stop_training = True
