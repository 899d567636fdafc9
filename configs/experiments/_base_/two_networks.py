# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# MMRazor's stock distillation of two networks, for every data set. It is no
# config of its own: an arm takes `model` from here and both of the networks,
# `model.architecture` and `model.teacher`, from configs beside its own.
_base_ = '../../_base_/distill/soft_labels.py'

model = dict(
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    distiller=_base_.distiller,
)
custom_hooks = []
