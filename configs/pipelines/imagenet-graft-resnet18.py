# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# MMPretrain's trained ResNet-18 grows branches, learns, and gives them back:
#   python tools/reduce.py configs/pipelines/imagenet-graft-resnet18.py
# Never run. The training that made the stock checkpoint is in no budget: the
# control trains that network further, for as long as both stages cost.
seed = 0

stages = [
    dict(
        name='teacher',
        config='../reducenet/grafted/grafted-resnet18-e1_imagenet_teacher.py',
    ),
    dict(
        name='student',
        config='../reducenet/grafted/grafted-resnet18-e1_imagenet_student.py',
    ),
]

controls = [
    dict(
        name='plain',
        config='../reducenet/grafted/resnet18_imagenet_finetune.py',
    ),
]
