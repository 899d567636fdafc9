# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# MMPretrain's trained MobileNetV2 grows branches beside its depthwise
# convolutions, which add nothing at the start.
# Never run; one iteration on a few images is a test.
_base_ = [
    'mmpretrain::_base_/models/mobilenet_v2_1x.py',
    '../../_base_/datasets/imagenet.py',
    '../../_base_/schedules/sgd_cosine_30e_bs256_finetune.py',
    '../../_base_/default_runtime.py',
]

load_from = 'https://download.openmmlab.com/mmclassification/v0/mobilenet_v2/mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth'  # noqa: E501
model = dict(
    backbone=dict(
        _delete_=True,
        type='GraftedBackbone',
        backbone=_base_.model.backbone,
        targets='depthwise',
        expansion=1,
    )
)
