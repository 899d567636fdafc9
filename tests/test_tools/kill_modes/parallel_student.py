# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Blocks with an activation behind the branch, which fades out.
_base_ = './student_annealed.py'

model = dict(
    architecture=dict(backbone=dict(block='parallel')),
    teacher_ckpt='./work_dirs/kills/parallel_teacher/reference',
)
