# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Only one new convolution of each block trains, from the pair's merge.
_base_ = './student.py'

FROZEN = ['stem', 'second_conv', 'norms', 'shortcut', 'classifier']
model = dict(
    architecture=dict(
        backbone=dict(block='sequential', student_conv='merged')
    ),
    teacher_ckpt='./work_dirs/kills/sequential_teacher/reference',
    reuse=dict(inherit='all', freeze=FROZEN),
)
