# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# All at once, on a student that learns from soft labels. A checkpoint is also
# written at the last step of an epoch, before the epoch has ended.
_base_ = './student.py'

model = dict(
    architecture=dict(train_cfg=dict(augments=dict(type='Mixup', alpha=0.4)))
)
train_dataloader = dict(num_workers=2, persistent_workers=True)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4))
custom_hooks = [
    dict(type='SupernetSwitchHook', recalib_samples=64),
    dict(type='EMAHook', momentum=0.1),
    dict(
        type='ResumableEarlyStoppingHook',
        monitor='accuracy/top1',
        min_delta=1000,
        patience=3,
    ),
]
