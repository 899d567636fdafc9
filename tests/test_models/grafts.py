# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""MMPretrain's backbones which the tests of grafting go through."""

from __future__ import annotations

import copy

import torch
from mmpretrain.registry import MODELS
from torch import nn

from tests.conftest import randomise_norms

TWO_STAGES = dict(
    num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,)
)

HOSTS = {
    'ResNet': (
        dict(depth=18, base_channels=8, stem_channels=8),
        'block_first_conv',
        8,
    ),
    'ResNeXt': (
        dict(TWO_STAGES, depth=50, base_channels=8, groups=4),
        r'layer2\.\d\.conv2',
        4,
    ),
    'SEResNet': (
        dict(TWO_STAGES, depth=50, base_channels=8, expansion=2),
        r'layer\d\.0\.conv\d',
        6,
    ),
    'RegNet': (
        dict(
            arch=dict(w0=8, wa=8.0, wm=2.0, group_w=8, depth=10, bot_mul=1.0)
        ),
        [r'layer\d\.0\.conv2', 'pointwise'],
        24,
    ),
    'MobileNetV2': (dict(widen_factor=0.25), ['depthwise', 'pointwise'], 51),
    'MobileNetV3': (dict(arch='small_050'), 'depthwise', 11),
    'ShuffleNetV2': (dict(widen_factor=0.5), 'block_first_conv', 16),
    'EfficientNet': (dict(arch='b0'), 'depthwise', 16),
    'DenseNet': (
        dict(arch=dict(growth_rate=8, depths=[2, 2, 2, 2], init_channels=16)),
        [r'stages\.\d\.block\.\d\.conv[12]', r'transitions\.\d\.conv'],
        19,
    ),
    'ConvNeXt': (
        dict(
            arch=dict(depths=[1, 1, 1, 1], channels=[8, 16, 32, 64]),
            gap_before_final_norm=False,
        ),
        ['block_first_conv', r'downsample_layers\.\d\.\d'],
        8,
    ),
    'VGG': (
        dict(depth=11, norm_cfg=dict(type='BN')),
        r'features\.(0|2)\.conv',
        2,
    ),
    'Res2Net': (
        dict(TWO_STAGES, depth=50, scales=4, base_width=4, base_channels=8),
        [r'layer[12]\.0\.convs\.\d', r'layer2\.\d\.conv1'],
        10,
    ),
}
"""Type -> settings of a small one, targets, and how many these are."""


def stock_backbone(name: str) -> nn.Module:
    """Return a small backbone whose norms hold nothing trivial."""
    torch.manual_seed(0)
    net = MODELS.build(dict(type=name, **copy.deepcopy(HOSTS[name][0])))
    randomise_norms(net)
    net.eval()
    return net


def grafted_cfg(name: str, **settings) -> dict:
    """Return the config of that backbone with branches."""
    backbone = dict(type=name, **copy.deepcopy(HOSTS[name][0]))
    backbone.update(settings.pop('backbone', {}))
    return dict(
        type='GraftedBackbone',
        backbone=dict(backbone, _scope_='mmpretrain'),
        targets=settings.pop('targets', HOSTS[name][1]),
        **settings,
    )


def classifier_around(backbone: dict, channels: int) -> nn.Module:
    """Return a classifier of 5 classes around the config of a backbone."""
    return MODELS.build(
        dict(
            _scope_='mmpretrain',
            type='ImageClassifier',
            data_preprocessor=dict(num_classes=5),
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead', num_classes=5, in_channels=channels
            ),
        )
    )
