# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# ReduceNet with the CIFAR layout: 6n+2 layers, widths w-2w-4w.
model = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(
        type='ReduceNet',
        depth=20,
        base_channels=16,
        expansion=1,
        block='postsum',
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
