# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
_base_ = [
    '../../_base_/models/reducenet_cifar.py',
    '../../_base_/datasets/cifar10.py',
    '../../_base_/schedules/sgd_cosine_200e_bs128.py',
    '../../_base_/default_runtime.py',
]
