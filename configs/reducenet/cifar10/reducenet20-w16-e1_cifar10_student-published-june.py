# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The recipe of ohmydroid/reducenet of 2023-06-07: main convolutions start
# anew, they and the shortcuts train, on the labels alone.
_base_ = [
    './reducenet20-w16-e1_cifar10_teacher.py',
    '../../_base_/distill/none.py',
    '../../_base_/reuse/published_june.py',
]

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SupernetDistill',
    architecture=_base_.model,
    teacher_ckpt='./work_dirs/reducenet20-w16-e1_cifar10_teacher',
    reuse=_base_.reuse,
    norm_stats=_base_.norm_stats,
    distiller=_base_.distiller,
)
custom_hooks = [*_base_.get('custom_hooks', []), *_base_.student_hooks]
optim_wrapper = _base_.student_optim_wrapper
