# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# MMPretrain's trained ResNet-18 grows branches, which add nothing at first.
# Never run; one iteration on a few images is a test.
_base_ = [
    'mmpretrain::_base_/models/resnet18.py',
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/sgd_cosine_30e_bs256_finetune.py',
    '../../_base_/default_runtime.py',
]

load_from = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet18_8xb32_in1k_20210831-fbbb1da6.pth'  # noqa: E501
model = dict(
    backbone=dict(
        _delete_=True,
        type='GraftedBackbone',
        backbone=_base_.model.backbone,
        targets='block_first_conv',
        expansion=1,
    )
)
