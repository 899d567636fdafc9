# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# CIFAR-100: 45,000 train, 5,000 validation, the official 10,000 test images.
_base_ = 'mmpretrain::_base_/datasets/cifar100_bs16.py'

data_root = '{{$CIFAR100_ROOT:data/cifar100/}}'

train_dataloader = dict(
    batch_size=128,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        _delete_=True,
        type='HoldoutSplit',
        part='train',
        val_size=5000,
        dataset=dict(
            _base_.train_dataloader.dataset,
            data_root=data_root,
            pipeline=[dict(type='SeedSample'), *_base_.train_pipeline],
        ),
    ),
    sampler=dict(type='SeededSampler'),
)

val_dataloader = dict(
    batch_size=250,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        _delete_=True,
        type='HoldoutSplit',
        part='val',
        val_size=5000,
        dataset=dict(
            _base_.train_dataloader.dataset,
            data_root=data_root,
            pipeline=_base_.test_pipeline,
        ),
    ),
)

test_dataloader = dict(
    batch_size=250,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(data_root=data_root),
)

val_evaluator = dict(topk=(1, 5))
test_evaluator = dict(topk=(1, 5))
