# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# MMRazor's stock distillation of two networks; both are the plain one here.
_base_ = ['./plain.py', '../../_base_/distill/soft_labels.py']

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    architecture=_base_.model,
    teacher=_base_.model,
    teacher_ckpt=None,  # the campaign sets it
    distiller=_base_.distiller,
)
# MMRazor's algorithm does not know which preprocessor it wants.
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor')
optim_wrapper = _base_.student_optim_wrapper
custom_hooks = []
