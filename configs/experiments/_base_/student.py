# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The supernet's student, for every data set. It is no config of its own: an
# arm takes `model` from here and `model.architecture` from its teacher.py.
_base_ = '../../_base_/distill/soft_labels.py'

# Arms take these too; their teachers have none of their own.
custom_hooks = _base_.student_hooks

model = dict(
    _scope_='mmrazor',
    type='SupernetDistill',
    reuse=dict(inherit='all', freeze=[]),
    norm_stats='live',
    distiller=_base_.distiller,
)
