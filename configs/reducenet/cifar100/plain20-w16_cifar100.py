# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The control: the student's architecture, trained from scratch on labels.
_base_ = './reducenet20-w16-e1_cifar100_teacher.py'

model = dict(
    backbone=dict(
        _delete_=True, type='PlainResNet', depth=20, base_channels=16
    )
)
