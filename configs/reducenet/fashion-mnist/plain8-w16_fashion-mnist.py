# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The control: the student's architecture, trained from scratch on labels.
_base_ = './reducenet8-w16-e4_fashion-mnist_teacher.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='PlainResNet',
        depth=8,
        base_channels=16,
        in_channels=1,
    )
)
