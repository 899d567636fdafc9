# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The student of the campaign on 500 images of Fashion-MNIST, on soft labels
# and the features at stage ends.
_base_ = [
    '../../experiments/fashion-mnist-few/teacher.py',
    '../../_base_/distill/soft_labels_features.py',
]

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='SupernetDistill',
    architecture=_base_.model,
    teacher_ckpt=None,  # the pipeline sets it
    reuse=dict(inherit='all', freeze=[]),
    norm_stats='live',
    distiller=_base_.distiller,
)
custom_hooks = [*_base_.get('custom_hooks', []), *_base_.student_hooks]
