# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The same network with branches, which add nothing at the start.
_base_ = './resnet18-w8_digits.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='GraftedBackbone',
        backbone=_base_.model.backbone,
        targets='block_first_conv',
        expansion=4,
    )
)
