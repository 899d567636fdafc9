# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The control: MMPretrain's trained MobileNetV2, trained further as it is.
# Never run; one iteration on a few images is a test.
_base_ = './grafted-mobilenet-v2-e1_imagenet_teacher.py'

model = dict(backbone=dict(_delete_=True, **_base_.model.backbone.backbone))
