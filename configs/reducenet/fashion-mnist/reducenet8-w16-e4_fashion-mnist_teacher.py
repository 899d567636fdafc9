# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
_base_ = [
    '../../_base_/models/reducenet_cifar.py',
    '../../_base_/datasets/fashion-mnist.py',
    '../../_base_/schedules/sgd_cosine_20e_bs128.py',
    '../../_base_/default_runtime.py',
]

model = dict(backbone=dict(depth=8, expansion=4, in_channels=1))
# A twelfth of the training images, so that two CPU cores suffice.
train_dataloader = dict(dataset=dict(train_size=5000))
