# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
_base_ = [
    './reducenet8-w16-e4_fashion-mnist_teacher.py',
    '../../_base_/distill/soft_labels.py',
]

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SupernetDistill',
    architecture=_base_.model,
    teacher_ckpt='./work_dirs/reducenet8-w16-e4_fashion-mnist_teacher',
    reuse=dict(inherit='all', freeze=['classifier']),
    norm_stats='live',
    distiller=_base_.distiller,
)
custom_hooks = [*_base_.get('custom_hooks', []), *_base_.student_hooks]
optim_wrapper = _base_.student_optim_wrapper
