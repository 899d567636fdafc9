# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# 500 training images, shrunk to 14x14 so that five seeds fit two CPU cores,
# not cropped, and long stages, so that the plain network saturates.
_base_ = [
    '../../_base_/models/reducenet_cifar.py',
    '../../_base_/datasets/fashion-mnist.py',
    '../../_base_/schedules/sgd_cosine.py',
    '../../_base_/default_runtime.py',
]

shrink = dict(type='Resize', scale=(14, 14), interpolation='area')
train_pipeline = [
    dict(type='SeedSample'),
    shrink,
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [shrink, dict(type='PackInputs')]

model = dict(
    backbone=dict(depth=8, base_channels=4, expansion=8, in_channels=1),
    head=dict(in_channels=16),
)
train_dataloader = dict(
    batch_size=50,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(train_size=500, dataset=dict(pipeline=train_pipeline)),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(dataset=dict(pipeline=test_pipeline)),
)
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=test_pipeline),
)
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))
param_scheduler = dict(periods=[80])
train_cfg = dict(max_epochs=80, val_interval=80)
default_hooks = dict(checkpoint=dict(interval=80))
