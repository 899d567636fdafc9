# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Only mergeable branches train, beside a student of which all is frozen.
_base_ = './student.py'

model = dict(
    student_init='./work_dirs/kills/teacher/reference',
    architecture=dict(
        backbone=dict(
            lora=dict(kind='kxk_1x1', inner_norm=True, outer_norm=True)
        )
    ),
    reuse=dict(_delete_=True, inherit='all', freeze='all'),
    norm_stats='inherited',
)
