# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The teacher: MMSegmentation's own FCN with branches in its backbone.
# Never run: one iteration on a few images is a test.
_base_ = 'mmseg::fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py'

custom_imports = dict(imports=['reducenet_mm'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='GraftedBackbone',
        backbone=_base_.model.backbone,
        targets='block_first_conv',
        expansion=1,
        norm_cfg=_base_.model.backbone.norm_cfg,
    )
)
