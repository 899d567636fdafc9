# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# MMPretrain's ResNet-18 classifier with our backbone in place of its own.
_base_ = 'mmpretrain::_base_/models/resnet18.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ReduceNet',
        depth=18,
        base_channels=64,
        expansion=1,
        block='postsum',
    )
)
