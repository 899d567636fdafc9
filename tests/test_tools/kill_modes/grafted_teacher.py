# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Branches grafted onto MMPretrain's own ResNet-18: 3 epochs of 16 iterations.
_base_ = (
    '../../../configs/reducenet/grafted/'
    'grafted-resnet18-w8-e4_digits_teacher.py'
)

model = dict(backbone=dict(expansion=1))
train_dataloader = dict(batch_size=64)
train_cfg = dict(max_epochs=3, val_interval=1)
param_scheduler = dict(periods=[3])
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=7))
