# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# A stock network: MMPretrain's own ResNet-18 for small images, narrow.
_base_ = [
    '../../_base_/datasets/digits.py',
    '../../_base_/schedules/sgd_cosine_30e_bs64.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(
        type='ResNet_CIFAR',
        depth=18,
        in_channels=1,
        stem_channels=8,
        base_channels=8,
        style='pytorch',
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
# An epoch takes a fraction of a second, about as long as saving it.
default_hooks = dict(checkpoint=dict(interval=15))
