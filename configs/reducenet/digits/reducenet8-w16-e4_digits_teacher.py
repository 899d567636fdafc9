# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
_base_ = [
    '../../_base_/models/reducenet_cifar.py',
    '../../_base_/datasets/digits.py',
    '../../_base_/schedules/sgd_cosine_30e_bs64.py',
    '../../_base_/default_runtime.py',
]

model = dict(backbone=dict(depth=8, expansion=4, in_channels=1))
# An epoch takes a fraction of a second, about as long as saving it.
default_hooks = dict(checkpoint=dict(interval=15))
