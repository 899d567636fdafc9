# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
_base_ = ['./teacher.py', '../../_base_/distill/soft_labels.py']

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SupernetDistill',
    architecture=_base_.model,
    teacher_ckpt=None,  # the campaign sets it
    reuse=dict(inherit='all', freeze=[]),
    norm_stats='live',
    distiller=_base_.distiller,
)
optim_wrapper = _base_.student_optim_wrapper
