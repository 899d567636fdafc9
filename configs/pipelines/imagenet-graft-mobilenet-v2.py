# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# MMPretrain's trained MobileNetV2 grows branches, learns, and gives them back:
#   python tools/reduce.py configs/pipelines/imagenet-graft-mobilenet-v2.py
# Never run. The training that made the stock checkpoint is in no budget: the
# control trains that network further, for as long as both stages cost.
seed = 0

stages = [
    dict(
        name='teacher',
        config='../reducenet/grafted/grafted-mobilenet-v2-e1_imagenet_teacher.py',
    ),
    dict(
        name='student',
        config='../reducenet/grafted/grafted-mobilenet-v2-e1_imagenet_student.py',
    ),
]

controls = [
    dict(
        name='plain',
        config='../reducenet/grafted/mobilenet-v2_imagenet_finetune.py',
    ),
]
