# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# MMRazor's own distillation: a fresh plain student, and the teacher beside it,
# as in configs/experiments/_base_/arms.py.
_base_ = ['./teacher.py', '../../../configs/_base_/distill/soft_labels.py']

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    architecture=dict(
        _base_.model,
        backbone=dict(
            type='PlainResNet', depth=8, base_channels=8, in_channels=1
        ),
    ),
    teacher=_base_.model,
    teacher_ckpt='./work_dirs/kills/teacher/reference/epoch_6.pth',
    distiller=_base_.distiller,
)
# MMRazor's algorithm does not know which preprocessor it wants.
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor')
optim_wrapper = _base_.student_optim_wrapper
