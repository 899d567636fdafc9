# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Weights in the layout ``channels_last``, unless PyTorch would crash."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from reducenet_mm.engine import MemoryFormatHook
from reducenet_mm.models.backbones import PlainResNet


def channels_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last)


def test_the_hook_lays_out_the_weights() -> None:
    hook = MemoryFormatHook()
    for point in (hook.before_train, hook.before_val, hook.before_test):
        runner = SimpleNamespace(model=nn.Conv2d(3, 4, 3))
        assert not channels_last(runner.model.weight)
        point(runner)
        assert channels_last(runner.model.weight)
    assert channels_last(runner.model(torch.randn(2, 3, 5, 5)))
    with pytest.raises(ValueError, match="got 'nhwc'"):
        MemoryFormatHook('nhwc')


def test_training_what_pytorch_cannot_is_refused() -> None:
    """Not tried here, as it would end this process or spoil its memory."""
    hook = MemoryFormatHook()
    runner = SimpleNamespace(model=PlainResNet(depth=8, base_channels=4))
    with pytest.raises(
        ValueError, match=r'^layer2\.0\.downsample\.0 .* with 4 input channels'
    ):
        hook.before_train(runner)
    assert not any(map(channels_last, weights(runner.model)))
    hook.before_test(runner)  # only backward passes are affected
    MemoryFormatHook('contiguous_format').before_train(runner)
    runner.model = PlainResNet(depth=8, base_channels=8)
    hook.before_train(runner)
    assert all(map(channels_last, weights(runner.model)))


def weights(model: nn.Module) -> list[Tensor]:
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    return [m.weight for m in convs if m.kernel_size != (1, 1)]
