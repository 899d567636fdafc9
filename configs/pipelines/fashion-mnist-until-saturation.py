# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The same on 5,000 images of Fashion-MNIST, for two CPU cores:
#   python tools/reduce.py configs/pipelines/fashion-mnist-until-saturation.py
seed = 0

# Each student stage starts from the best student so far, by validation.
stages = [
    dict(
        name='teacher',
        config='../reducenet/fashion-mnist/reducenet8-w16-e4_fashion-mnist_teacher.py',
    ),
    dict(
        name='reuse',
        config='../reducenet/fashion-mnist/reducenet8-w16-e4_fashion-mnist_student.py',
        cfg_options={'model.distiller': None},
    ),
    dict(
        name='soft_labels',
        config='../reducenet/fashion-mnist/reducenet8-w16-e4_fashion-mnist_student.py',
    ),
    dict(
        name='features',
        config='./stages/fashion-mnist_soft-labels-features.py',
    ),
    dict(name='lora', config='./stages/fashion-mnist_lora.py'),
]

# Gains are in percentage points of accuracy on the 5,000 validation images, so
# that `metric` (accuracy/top1) must be in percent, not a fraction as mAP often
# is. `patience` counts validations, here epochs. It is half a stage: with a
# cosine schedule much of the gain comes late, at a low learning rate.
until = dict(min_gain=0.1, patience=10, stage_min_gain=0.1)
cfg_options = dict(train_cfg=dict(val_interval=1))

# Both get the training multiply-adds that the stages have really spent.
controls = [
    dict(
        name='plain',
        config='../reducenet/fashion-mnist/plain8-w16_fashion-mnist.py',
    ),
    dict(
        name='plain_restart',
        config='../reducenet/fashion-mnist/plain8-w16_fashion-mnist.py',
        restart_at='reuse',
    ),
]
