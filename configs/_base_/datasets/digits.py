# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# scikit-learn's 8x8 digits: 997 train, 300 validation, 500 test images. They
# are in memory and tiny, so that loader processes would only cost time.
data_preprocessor = dict(num_classes=10, mean=[77.81], std=[95.90])

train_pipeline = [
    dict(type='SeedSample'),
    dict(type='RandomCrop', crop_size=8, padding=1),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='SeededSampler', shuffle=True),
    dataset=dict(type='Digits', split='train', pipeline=train_pipeline),
)

val_dataloader = dict(
    batch_size=300,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='val', pipeline=test_pipeline),
)
val_evaluator = dict(type='Accuracy', topk=(1,))

test_dataloader = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='test', pipeline=test_pipeline),
)
test_evaluator = val_evaluator
