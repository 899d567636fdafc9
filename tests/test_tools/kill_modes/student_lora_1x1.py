# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Only a convolution 1 x 1 and its norm train, beside each frozen one.
_base_ = './student_lora.py'

model = dict(
    architecture=dict(backbone=dict(lora=dict(_delete_=True, kind='1x1')))
)
