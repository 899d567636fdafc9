# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Soft labels and live norm statistics. The teacher is the reference of that
# mode, as tools/analysis_tools/record_kills.py leaves it.
_base_ = (
    '../../../configs/reducenet/digits/reducenet8-w16-e4_digits_student.py'
)

model = dict(
    architecture=dict(
        backbone=dict(base_channels=8, expansion=2), head=dict(in_channels=32)
    ),
    teacher_ckpt='./work_dirs/kills/teacher/reference',
)
train_dataloader = dict(batch_size=64)
train_cfg = dict(max_epochs=6, val_interval=1)
param_scheduler = dict(periods=[6])
default_hooks = dict(checkpoint=dict(interval=1))
