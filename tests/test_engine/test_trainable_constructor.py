# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The optimizer constructor, and the memory layout by config."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from reducenet_mm.engine import MemoryFormatHook


def net():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model[0].weight.requires_grad_(False)
    return model


def build(model, **paramwise):
    cfg = dict(
        constructor='TrainableOptimWrapperConstructor',
        optimizer=dict(type='SGD', lr=0.5, weight_decay=0.1),
    )
    if paramwise:
        cfg['paramwise_cfg'] = paramwise
    return build_optim_wrapper(model, cfg)


def test_frozen_parameters_are_left_out():
    model = net()
    groups = build(model).optimizer.param_groups
    held = [id(p) for group in groups for p in group['params']]
    trained = [id(p) for p in model.parameters() if p.requires_grad]
    assert held == trained


def test_paramwise_settings_are_kept():
    model = net()
    groups = build(
        model, norm_decay_mult=0.0, custom_keys={'0': dict(lr_mult=0.1)}
    ).optimizer.param_groups
    settings = {
        id(p): (g['lr'], g['weight_decay'])
        for g in groups
        for p in g['params']
    }
    assert settings == {
        id(model[0].bias): (0.05, 0.1),
        id(model[1].weight): (0.5, 0.0),
        id(model[1].bias): (0.5, 0.0),
    }


def test_nothing_to_train_is_refused():
    model = net().requires_grad_(False)
    for paramwise in ({}, dict(norm_decay_mult=0.0)):
        with pytest.raises(ValueError, match='no parameter of the model'):
            build(model, **paramwise)


def test_memory_format_hook_lays_out_the_weights():
    class Holder:
        model = nn.Conv2d(3, 4, 3)

    assert not _channels_last(Holder.model.weight)
    hook = MemoryFormatHook()
    for point in (hook.before_train, hook.before_val, hook.before_test):
        Holder.model = nn.Conv2d(3, 4, 3)
        point(Holder)
        assert _channels_last(Holder.model.weight)
    output = Holder.model(torch.randn(2, 3, 5, 5))
    assert output.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match="got 'nhwc'"):
        MemoryFormatHook('nhwc')


def _channels_last(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last)
