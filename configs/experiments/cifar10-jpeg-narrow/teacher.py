# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# 40,000 training images for a network so narrow (2, 4 and 8 channels) that it
# is meant to saturate for want of capacity, and branches to help. Shrunk to
# 8x8 and not augmented, so that five seeds fit two CPU cores.
#
# The 60,000 images of CIFAR-10 as 32x32 JPEG files, in the folders
# train/<class>/ and test/<class>/ of CIFAR10_JPEG_ROOT. Compression changes
# them: figures are comparable among runs on these files only.
_base_ = [
    '../../_base_/models/reducenet_cifar.py',
    '../../_base_/schedules/sgd_cosine.py',
    '../../_base_/default_runtime.py',
]

data_root = '{{$CIFAR10_JPEG_ROOT:data/cifar10_jpeg/}}'
data_preprocessor = dict(
    num_classes=10,
    mean=[125.3, 123.0, 113.9],
    std=[63.0, 62.1, 66.7],
    to_rgb=True,
)

load = dict(type='LoadImageFromFile')
shrink = dict(type='Resize', scale=(8, 8), interpolation='area')
train_pipeline = [
    dict(type='SeedSample'),
    load,
    shrink,
    dict(type='PackInputs'),
]
test_pipeline = [load, shrink, dict(type='PackInputs')]

model = dict(
    backbone=dict(depth=8, base_channels=2, expansion=8),
    head=dict(in_channels=8),
)
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='SeededSampler', shuffle=True),
    dataset=dict(
        type='HoldoutSplit',
        part='train',
        val_size=5000,
        train_size=40000,
        dataset=dict(
            type='CustomDataset',
            data_root=data_root,
            data_prefix='train',
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='HoldoutSplit',
        part='val',
        val_size=5000,
        dataset=dict(
            type='CustomDataset',
            data_root=data_root,
            data_prefix='train',
            pipeline=test_pipeline,
        ),
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        data_prefix='test',
        pipeline=test_pipeline,
    ),
)
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))
param_scheduler = dict(periods=[20])
train_cfg = dict(max_epochs=20, val_interval=20)
default_hooks = dict(checkpoint=dict(interval=5))
