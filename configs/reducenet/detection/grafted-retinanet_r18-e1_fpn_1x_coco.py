# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The teacher: MMDetection's own RetinaNet with branches in its backbone.
# Never run: one iteration on a few images is a test.
_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'

custom_imports = dict(imports=['reducenet_mm'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='GraftedBackbone',
        backbone=_base_.model.backbone,
        # This recipe freezes stage 1, where branches would not train.
        targets=r'layer[234]\.\d\.conv1',
        expansion=1,
        # It keeps batch norms in eval mode (norm_eval): those of a branch
        # would never see an image. No batch norm is in that mode for ever.
        norm_cfg=dict(type='GN', num_groups=32),
    )
)
