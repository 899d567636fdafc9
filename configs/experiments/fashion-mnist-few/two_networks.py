# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# MMRazor's stock distillation: the teacher of the supernet, a fresh student.
_base_ = ['./plain.py', '../../_base_/distill/soft_labels.py']

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    architecture=_base_.model,
    teacher=dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=dict(
            type='ReduceNet',
            depth=8,
            base_channels=8,
            expansion=8,
            in_channels=1,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=10,
            in_channels=32,
            loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        ),
    ),
    teacher_ckpt=None,  # the campaign sets it
    distiller=_base_.distiller,
)
# MMRazor's algorithm does not know which preprocessor it wants.
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor')
optim_wrapper = _base_.student_optim_wrapper
custom_hooks = []
