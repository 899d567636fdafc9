# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Only lora branches train, and the activation inside them fades.
_base_ = './student_lora.py'

model = dict(
    architecture=dict(
        backbone=dict(lora=dict(kind='kxk_1x1', inner_norm=True, act=True))
    )
)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5))
custom_hooks = [dict(type='ScalerScheduleHook', end=4, gates=['lambda_relu'])]
