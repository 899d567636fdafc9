# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The activations become the identity little by little, while the pairs train.
_base_ = './student_annealed.py'

model = dict(
    architecture=dict(backbone=dict(block='sequential')),
    teacher_ckpt='./work_dirs/kills/sequential_teacher/reference',
)
