# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# All training images, but a network of 2, 4 and 8 channels: far too narrow.
_base_ = [
    '../../_base_/models/reducenet_cifar.py',
    '../../_base_/datasets/digits.py',
    '../../_base_/schedules/sgd_cosine.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(depth=8, base_channels=2, expansion=8, in_channels=1),
    head=dict(in_channels=8),
)
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))
param_scheduler = dict(periods=[60])
train_cfg = dict(max_epochs=60, val_interval=60)
default_hooks = dict(checkpoint=dict(interval=60))
