# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# 50,000 training images, shrunk to 7x7, for a network so narrow (1, 2 and 4
# channels) that it saturates for want of capacity, while the teacher's wide
# branches help. Not augmented, in large batches at a rate to match: nothing
# is drawn by the pipeline, which takes longer than so small a network.
_base_ = '../fashion-mnist-few/teacher.py'

shrink = dict(type='Resize', scale=(7, 7), interpolation='area')
pipeline = [shrink, dict(type='PackInputs')]
collate_fn = dict(type='default_collate')

model = dict(
    backbone=dict(base_channels=1, expansion=16), head=dict(in_channels=4)
)
train_dataloader = dict(
    batch_size=512,
    collate_fn=collate_fn,
    dataset=dict(train_size=50000, dataset=dict(pipeline=pipeline)),
)
val_dataloader = dict(
    batch_size=500,
    collate_fn=collate_fn,
    dataset=dict(dataset=dict(pipeline=pipeline)),
)
test_dataloader = dict(
    batch_size=500, collate_fn=collate_fn, dataset=dict(pipeline=pipeline)
)
optim_wrapper = dict(optimizer=dict(lr=0.4))
param_scheduler = dict(periods=[20])
train_cfg = dict(max_epochs=20, val_interval=20)
default_hooks = dict(checkpoint=dict(interval=5))
