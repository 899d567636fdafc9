# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The student, a plain FCN-R18, with the last stage and the class scores of its
# teacher as targets.
# Never run: one iteration on a few images is a test.
_base_ = [
    './grafted-fcn_r18-d8-e1_4xb2-80k_cityscapes-512x1024.py',
    '../../_base_/distill/dense/pkd_stage4_cwd_scores.py',
]

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SupernetDistill',
    architecture=_base_.model,
    teacher_ckpt='./work_dirs/'
    'grafted-fcn_r18-d8-e1_4xb2-80k_cityscapes-512x1024',
    reuse=dict(inherit='all', freeze=['classifier']),
    norm_stats='live',
    distiller=_base_.distiller,
)
custom_hooks = [*_base_.get('custom_hooks', []), *_base_.student_hooks]
optim_wrapper = _base_.student_optim_wrapper
