# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Fashion-MNIST, 28x28 grey. 5,000 of the 60,000 training images are held out
# for validation; the official 10,000 test images are the test set.
#
# MMPretrain downloads what is missing. On Debian nothing need be downloaded,
# but the package's files must be unpacked (their checksums differ):
#   apt-get install dataset-fashion-mnist
#   mkdir -p data/fashion-mnist
#   cp /usr/share/datasets/fashion-mnist/*.gz data/fashion-mnist/
#   gunzip data/fashion-mnist/*.gz
# FASHION_MNIST_ROOT names another folder.
data_root = '{{$FASHION_MNIST_ROOT:data/fashion-mnist/}}'
data_preprocessor = dict(num_classes=10, mean=[72.94], std=[90.02])

train_pipeline = [
    dict(type='SeedSample'),
    dict(type='RandomCrop', crop_size=28, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='SeededSampler', shuffle=True),
    dataset=dict(
        type='HoldoutSplit',
        part='train',
        val_size=5000,
        train_size=None,
        dataset=dict(
            type='FashionMNIST',
            data_root=data_root,
            split='train',
            pipeline=train_pipeline,
        ),
    ),
)

val_dataloader = dict(
    batch_size=250,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='HoldoutSplit',
        part='val',
        val_size=5000,
        dataset=dict(
            type='FashionMNIST',
            data_root=data_root,
            split='train',
            pipeline=test_pipeline,
        ),
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1,))

test_dataloader = dict(
    batch_size=250,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    # It is `test_mode`, not `split`, that makes MMPretrain read the test set.
    dataset=dict(
        type='FashionMNIST',
        data_root=data_root,
        split='test',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_evaluator = val_evaluator
