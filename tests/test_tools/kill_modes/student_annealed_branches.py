# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The branches train while they fade out, in steps; weights are averaged.
_base_ = './student.py'

model = dict(train_branches=True)
custom_hooks = [
    dict(type='SupernetSwitchHook', recalib_samples=64),
    dict(type='ScalerScheduleHook', end=4, shape='step', steps=3),
    dict(type='EMAHook', momentum=0.1),
]
