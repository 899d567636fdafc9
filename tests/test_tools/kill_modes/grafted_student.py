# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The grafted teacher gives back the stock network: soft labels, averaged.
_base_ = (
    '../../../configs/reducenet/grafted/'
    'grafted-resnet18-w8-e4_digits_student.py'
)

model = dict(
    architecture=dict(backbone=dict(expansion=1)),
    teacher_ckpt='./work_dirs/kills/grafted_teacher/reference',
)
train_dataloader = dict(batch_size=64)
train_cfg = dict(max_epochs=3, val_interval=1)
param_scheduler = dict(periods=[3])
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=7))
custom_hooks = [
    dict(type='SupernetSwitchHook', recalib_samples=64),
    dict(type='EMAHook', momentum=0.1),
]
