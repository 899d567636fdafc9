# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Teacher, student and one network between them, trained in place under a
# ramp, with mixup and an average; checkpoints within epochs too.
_base_ = (
    '../../../configs/reducenet/digits/'
    'reducenet8-w16-e4_digits_inplace-sandwich.py'
)

model = dict(
    ramp=0.6,
    architecture=dict(
        backbone=dict(base_channels=8, expansion=2),
        head=dict(in_channels=32),
        train_cfg=dict(augments=dict(type='Mixup', alpha=0.4)),
    ),
)
train_dataloader = dict(batch_size=64, num_workers=2, persistent_workers=True)
train_cfg = dict(max_epochs=6, val_interval=1)
param_scheduler = dict(periods=[6])
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5))
custom_hooks = [
    dict(type='InplaceHook'),
    dict(type='EMAHook', momentum=0.1),
]
