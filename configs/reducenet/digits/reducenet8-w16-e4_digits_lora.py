# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Third stage: the trained student, frozen, gets linear branches that learn
# from the same teacher and merge into its convolutions at export.
_base_ = [
    './reducenet8-w16-e4_digits_student.py',
    '../../_base_/reuse/lora.py',
]

model = dict(
    architecture=dict(
        backbone=dict(lora=dict(kind='kxk_1x1', expansion=2, inner_norm=True))
    ),
    student_init='./work_dirs/reducenet8-w16-e4_digits_student',
    reuse=_base_.reuse,
    norm_stats=_base_.norm_stats,
)
