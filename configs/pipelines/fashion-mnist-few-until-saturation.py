# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# One means after the other until the student saturates, on 500 images of
# Fashion-MNIST, where soft labels help (experiments/fashion-mnist-few-again),
# for two CPU cores:
#   python tools/reduce.py \
#       configs/pipelines/fashion-mnist-few-until-saturation.py
seed = 0

# Each student stage starts from the best student so far, by validation.
stages = [
    dict(
        name='teacher',
        config='../experiments/fashion-mnist-few/teacher.py',
    ),
    dict(
        name='reuse',
        config='./stages/fashion-mnist-few_soft-labels.py',
        cfg_options={'model.distiller': None},
    ),
    dict(
        name='soft_labels',
        config='./stages/fashion-mnist-few_soft-labels.py',
    ),
    dict(
        name='features',
        config='./stages/fashion-mnist-few_soft-labels-features.py',
    ),
    dict(name='lora', config='./stages/fashion-mnist-few_lora.py'),
]

# Gains are in percentage points of accuracy on the 5,000 validation images, so
# that `metric` (accuracy/top1) must be in percent, not a fraction as mAP often
# is. `patience` counts validations, here of every fifth epoch. It is half a
# stage: with a cosine schedule much of the gain comes late, at a low learning
# rate. The student may pass its teacher, as those of the campaigns did.
until = dict(min_gain=0.3, patience=8, stage_min_gain=0.3, beyond_teacher=True)
cfg_options = dict(train_cfg=dict(val_interval=5))

# Both get the training multiply-adds that the stages have really spent.
controls = [
    dict(name='plain', config='../experiments/fashion-mnist-few/plain.py'),
    dict(
        name='plain_restart',
        config='../experiments/fashion-mnist-few/plain.py',
        restart_at='reuse',
    ),
]
