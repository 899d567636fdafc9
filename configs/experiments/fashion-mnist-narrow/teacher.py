# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# 10,000 training images for a network so narrow (1, 2 and 4 channels) that it
# is meant to saturate for want of capacity, not of images, and branches to
# help. Shrunk to 14x14 so that five seeds fit two CPU cores.
_base_ = '../fashion-mnist-few/teacher.py'

train_pipeline = [
    dict(type='SeedSample'),
    _base_.shrink,
    dict(type='PackInputs'),
]

model = dict(backbone=dict(base_channels=1), head=dict(in_channels=4))
train_dataloader = dict(
    batch_size=128,
    dataset=dict(train_size=10000, dataset=dict(pipeline=train_pipeline)),
)
param_scheduler = dict(periods=[50])
train_cfg = dict(max_epochs=50, val_interval=50)
default_hooks = dict(checkpoint=dict(interval=10))
