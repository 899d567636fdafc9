# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Features at the ends of the stages instead of soft labels.
_base_ = ['./teacher.py', '../../../configs/_base_/distill/features.py']

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SupernetDistill',
    architecture=_base_.model,
    teacher_ckpt='./work_dirs/kills/teacher/reference',
    reuse=dict(inherit='all', freeze=['classifier']),
    norm_stats='live',
    distiller=_base_.distiller,
)
custom_hooks = _base_.student_hooks
optim_wrapper = _base_.student_optim_wrapper
