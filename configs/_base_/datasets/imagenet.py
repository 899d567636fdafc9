# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# ImageNet-1k: 50,000 training images, 50 a class, are held out for validation;
# the official validation set is the test set.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64.py'

data_root = '{{$IMAGENET_ROOT:data/imagenet/}}'

train_dataloader = dict(
    batch_size=32,  # of each of 8 GPUs: the schedule is for 256
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        _delete_=True,
        type='HoldoutSplit',
        part='train',
        val_size=50000,
        dataset=dict(
            _base_.train_dataloader.dataset,
            data_root=data_root,
            # An unreadable image is an error that names it.
            pipeline=[
                dict(type='SeedSample'),
                dict(type='LoadReadableImage', max_unreadable=0),
                *_base_.train_pipeline[1:],
            ],
        ),
    ),
    sampler=dict(type='SeededSampler'),
)

val_dataloader = dict(
    batch_size=64,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        _delete_=True,
        type='HoldoutSplit',
        part='val',
        val_size=50000,
        dataset=dict(
            _base_.train_dataloader.dataset,
            data_root=data_root,
            pipeline=[
                dict(type='LoadReadableImage'),
                *_base_.test_pipeline[1:],
            ],
        ),
    ),
)

test_dataloader = dict(
    batch_size=64,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        data_root=data_root,
        pipeline=[dict(type='LoadReadableImage'), *_base_.test_pipeline[1:]],
    ),
)
