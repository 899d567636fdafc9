# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The branches fade out one after the other over 4 of 6 epochs; a checkpoint is
# also written in the midst of that.
_base_ = './student.py'

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5))
custom_hooks = [
    dict(type='SupernetSwitchHook', recalib_samples=64),
    dict(type='ScalerScheduleHook', end=4, order='deepest_first'),
]
