# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
_base_ = [
    '../../_base_/models/reducenet_imagenet.py',
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/sgd_cosine_100e_bs256.py',
    '../../_base_/default_runtime.py',
]
