# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Only low-rank updates of a frozen student's weights train.
_base_ = './student_lora.py'

model = dict(
    architecture=dict(
        backbone=dict(lora=dict(_delete_=True, kind='weight', expansion=0.25))
    )
)
