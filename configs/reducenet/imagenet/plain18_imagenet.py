# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The control: the student's architecture, trained from scratch on labels.
_base_ = './reducenet18-e1_imagenet_teacher.py'

model = dict(
    backbone=dict(
        _delete_=True, type='PlainResNet', depth=18, base_channels=64
    )
)
