# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
_base_ = './teacher.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='PlainResNet',
        depth=8,
        base_channels=1,
        in_channels=1,
    )
)
