# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""End a training whose loss or weights are no numbers any more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from reducenet_mm.registry import HOOKS

from ..checkpointing import newest_checkpoint, out_dir_of
from .runner_facts import unwrapped_model


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Raise at the first loss that is NaN or infinite.

    Also before a checkpoint is written, if the weights are: so none is ever
    written that cannot be resumed from. MMEngine reads all losses from the
    device after each iteration to log them, so this waits for nothing more.

    Raises:
        RuntimeError: By its hook points; says where, which losses or
            weights, the learning rate, and what to resume from.
    """

    # Before whatever uses the losses or writes the checkpoint.
    priority = 'VERY_HIGH'

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Check the losses of the iteration."""
        losses = {k: v for k, v in (outputs or {}).items() if 'loss' in k}
        values = {
            name: value.item() if isinstance(value, Tensor) else value
            for name, value in losses.items()
        }
        bad = [f'{k}={v}' for k, v in values.items() if not math.isfinite(v)]
        if bad:
            self._stop(
                runner,
                f'{", ".join(bad)} in iteration {runner.iter + 1} of epoch '
                f'{runner.epoch + 1}',
            )

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Check the weights, which an overflow can spoil before a loss."""
        model = unwrapped_model(runner)
        parameters = {name for name, _ in model.named_parameters()}
        state = checkpoint['state_dict']
        bad = [k for k, v in state.items() if _is_bad(v, k in parameters)]
        if bad:
            self._stop(
                runner,
                f'{len(bad)} weights or statistics are not finite after '
                f'iteration {checkpoint["meta"]["iter"]}, e.g. {bad[0]}',
            )

    def _stop(self, runner: Runner, what: str) -> None:
        rates = runner.optim_wrapper.get_lr()
        rate = ', '.join(f'{k}={max(v):g}' for k, v in rates.items())
        raise RuntimeError(
            f'training has diverged: {what}, at {rate}. '
            f'{_what_is_left(runner)} with a lower '
            'optim_wrapper.optimizer.lr, or with optim_wrapper.clip_grad='
            'dict(max_norm=1.0).'
        )


def _what_is_left(runner: Runner) -> str:
    folder = out_dir_of(runner.cfg)
    try:
        newest = newest_checkpoint(runner.work_dir, out_dir=folder)
    except ValueError as error:  # all are damaged, or elsewhere
        return f'To resume: {error} Or start again'
    if newest is None:
        return f'There is no good checkpoint in {runner.work_dir}: start again'
    return f'The last good checkpoint is {newest}: resume from it'


def _is_bad(value: Any, is_parameter: bool) -> bool:
    """Whether a tensor is spoilt; a buffer may be infinite, as a mask is."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    if is_parameter:
        return not bool(value.isfinite().all())
    return bool(value.isnan().any())
