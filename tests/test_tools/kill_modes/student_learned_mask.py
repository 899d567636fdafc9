# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Which branch goes next is learned, and all are gone after 4 of 6 epochs.
_base_ = './student.py'

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5))
custom_hooks = [
    dict(type='SupernetSwitchHook', recalib_samples=64),
    dict(type='LearnedMaskHook', end=4),
]
