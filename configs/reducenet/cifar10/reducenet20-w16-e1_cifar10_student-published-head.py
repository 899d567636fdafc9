# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The recipe of the table of results of ohmydroid/reducenet: all is inherited
# and trains, on 0.3 * cross entropy and the soft labels of that code.
_base_ = [
    './reducenet20-w16-e1_cifar10_teacher.py',
    '../../_base_/distill/soft_labels_published.py',
    '../../_base_/reuse/published_head.py',
]

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SupernetDistill',
    architecture=dict(
        _base_.model,
        head=dict(
            _base_.model.head,
            loss=dict(_base_.model.head.loss, loss_weight=0.3),
        ),
    ),
    teacher_ckpt='./work_dirs/reducenet20-w16-e1_cifar10_teacher',
    reuse=_base_.reuse,
    norm_stats=_base_.norm_stats,
    distiller=_base_.distiller,
)
custom_hooks = [*_base_.get('custom_hooks', []), *_base_.student_hooks]
optim_wrapper = _base_.student_optim_wrapper
