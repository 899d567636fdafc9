# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# One means after the other until the student saturates, on real 8x8 images:
#   python tools/reduce.py configs/pipelines/digits-until-saturation.py
seed = 0

# Each student stage starts from the best student so far, by validation.
stages = [
    dict(
        name='teacher',
        config='../reducenet/digits/reducenet8-w16-e4_digits_teacher.py',
    ),
    dict(
        name='reuse',
        config='../reducenet/digits/reducenet8-w16-e4_digits_student.py',
        cfg_options={'model.distiller': None},
    ),
    dict(
        name='soft_labels',
        config='../reducenet/digits/reducenet8-w16-e4_digits_student.py',
    ),
    dict(name='features', config='./stages/digits_soft-labels-features.py'),
    dict(
        name='lora',
        config='../reducenet/digits/reducenet8-w16-e4_digits_lora.py',
    ),
]

# Gains are in percentage points of validation accuracy, so that `metric`
# (accuracy/top1) must be in percent, not a fraction as mAP often is; one of
# the 300 images is 0.33. `patience` counts validations, here epochs. It is
# half a stage: with a cosine schedule much of the gain comes late, at a low
# learning rate.
until = dict(min_gain=0.3, patience=15, stage_min_gain=0.3)
cfg_options = dict(train_cfg=dict(val_interval=1))

# Both get the training multiply-adds that the stages have really spent.
controls = [
    dict(name='plain', config='../reducenet/digits/plain8-w16_digits.py'),
    dict(
        name='plain_restart',
        config='../reducenet/digits/plain8-w16_digits.py',
        restart_at='reuse',
    ),
]
