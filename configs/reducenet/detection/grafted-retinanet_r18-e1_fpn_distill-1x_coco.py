# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The student, a plain RetinaNet-R18, with its teacher's pyramid as target.
# Never run: one iteration on a few images is a test.
_base_ = [
    './grafted-retinanet_r18-e1_fpn_1x_coco.py',
    '../../_base_/distill/dense/pkd_fpn.py',
]

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SupernetDistill',
    # Without norm_eval, statistics may be estimated anew (norm_stats): once,
    # with the branches off. They are kept then, as in the stock recipe.
    architecture=dict(
        _base_.model,
        backbone=dict(
            _base_.model.backbone,
            backbone=dict(_base_.model.backbone.backbone, norm_eval=False),
        ),
    ),
    teacher_ckpt='./work_dirs/grafted-retinanet_r18-e1_fpn_1x_coco',
    reuse=dict(inherit='all', freeze=['classifier']),
    norm_stats='recalibrated',
    distiller=_base_.distiller,
)
custom_hooks = [dict(type='SupernetSwitchHook', recalib_samples=1024)]
optim_wrapper = _base_.student_optim_wrapper
