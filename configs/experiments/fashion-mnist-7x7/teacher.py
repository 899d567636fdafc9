# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# 20,000 training images, shrunk to 7x7, for a network so narrow (1, 2 and 4
# channels) that it is meant to saturate for want of capacity, and branches to
# help. In large batches, at a rate to match, which takes less time. Not
# augmented, so the pipeline needs no SeedSample.
_base_ = '../fashion-mnist-few/teacher.py'

shrink = dict(type='Resize', scale=(7, 7), interpolation='area')
train_pipeline = [shrink, dict(type='PackInputs')]
test_pipeline = train_pipeline

model = dict(backbone=dict(base_channels=1), head=dict(in_channels=4))
train_dataloader = dict(
    batch_size=256,
    dataset=dict(train_size=20000, dataset=dict(pipeline=train_pipeline)),
)
val_dataloader = dict(
    batch_size=500, dataset=dict(dataset=dict(pipeline=test_pipeline))
)
test_dataloader = dict(batch_size=500, dataset=dict(pipeline=test_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.4))
param_scheduler = dict(periods=[40])
train_cfg = dict(max_epochs=40, val_interval=40)
default_hooks = dict(checkpoint=dict(interval=5))
