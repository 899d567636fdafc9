# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# 100 training images and a long schedule: more epochs cannot help much.
_base_ = [
    '../../_base_/models/reducenet_cifar.py',
    '../../_base_/datasets/digits.py',
    '../../_base_/schedules/sgd_cosine.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(depth=8, base_channels=4, expansion=8, in_channels=1),
    head=dict(in_channels=16),
)
train_dataloader = dict(batch_size=50, dataset=dict(indices=100))
optim_wrapper = dict(optimizer=dict(lr=0.05, weight_decay=5e-4))
param_scheduler = dict(periods=[300])
train_cfg = dict(max_epochs=300, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=100))
