# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The student's architecture alone, trained from scratch on labels.
_base_ = './teacher.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='PlainResNet',
        depth=8,
        base_channels=8,
        in_channels=1,
    )
)
