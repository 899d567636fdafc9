# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Choose the memory layout of a model's weights by config."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

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
        ValueError: If it is none. Before a training on CPUs, if PyTorch
            would spoil its own memory in it.
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
        if self.memory_format is torch.channels_last:
            check_channels_last(runner.model)
        runner.model.to(memory_format=self.memory_format)

    def before_val(self, runner: Runner) -> None:
        """Lay out the weights of a model that is only evaluated."""
        runner.model.to(memory_format=self.memory_format)

    def before_test(self, runner: Runner) -> None:
        """Lay out the weights of a model that is only evaluated."""
        runner.model.to(memory_format=self.memory_format)


def check_channels_last(model: nn.Module) -> None:
    """Refuse what crashes, or worse does not, in a backward pass on CPUs.

    Tried with torch 2.14.1: strided 1x1 convolutions of 1, 2, 4 and 6
    channels write beyond their memory in the layout ``channels_last``, those
    of 8 and more do not, nor any in PyTorch's usual layout.

    Args:
        model: What is to be trained in that layout.

    Raises:
        ValueError: If it has such a convolution on a CPU.
    """
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Conv2d) or layer.kernel_size != (1, 1):
            continue
        on_cpu = layer.weight.device.type == 'cpu'
        channels = layer.in_channels // layer.groups
        if on_cpu and channels < 8 and max(layer.stride) > 1:
            raise ValueError(
                f'{name} is a 1x1 convolution of stride {layer.stride} with '
                f'{channels} input channels: PyTorch corrupts its memory '
                "when it trains one on CPUs in 'channels_last' with fewer "
                'than 8. Leave that layout out (custom_hooks: '
                'MemoryFormatHook), or take a wider network '
                '(model.backbone.base_channels).'
            )
