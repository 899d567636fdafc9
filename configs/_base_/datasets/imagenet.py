# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# ImageNet-1k: 50,000 training images, 50 a class, are held out for validation;
# the official validation set is the test set.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64.py'

data_root = '{{$IMAGENET_ROOT:data/imagenet/}}'

train_dataloader = dict(
    batch_size=64,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        _delete_=True,
        type='HoldoutSplit',
        part='train',
        val_size=50000,
        dataset=dict(_base_.train_dataloader.dataset, data_root=data_root),
    ),
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
            pipeline=_base_.test_pipeline,
        ),
    ),
)

test_dataloader = dict(
    batch_size=64,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(data_root=data_root),
)
