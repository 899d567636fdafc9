# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Choose the memory layout of a model's weights by config."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from reducenet_mm.registry import HOOKS

FORMATS = {
    'channels_last': torch.channels_last,
    'contiguous_format': torch.contiguous_format,
}


@HOOKS.register_module()
class MemoryFormatHook(Hook):
    """Lay out 4-D weights before training, validation and test.

    Convolutions hand the layout on to their outputs, so inputs need not be
    converted.

    Args:
        memory_format: A key of ``FORMATS``.

    Raises:
        ValueError: If it is none.
    """

    def __init__(self, memory_format: str = 'channels_last') -> None:
        if memory_format not in FORMATS:
            raise ValueError(
                f'memory_format must be one of {sorted(FORMATS)}, got '
                f'{memory_format!r}. Set it in custom_hooks.'
            )
        self.memory_format = FORMATS[memory_format]

    def before_train(self, runner: Runner) -> None:
        """Lay out the weights, after they have been loaded."""
        runner.model.to(memory_format=self.memory_format)

    def before_val(self, runner: Runner) -> None:
        """Lay out the weights of a model that is only evaluated."""
        runner.model.to(memory_format=self.memory_format)

    def before_test(self, runner: Runner) -> None:
        """Lay out the weights of a model that is only evaluated."""
        runner.model.to(memory_format=self.memory_format)
