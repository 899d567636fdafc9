# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# A trained stock network grows branches, learns, and gives them back, on real
# 8x8 images:
#   python tools/reduce.py configs/pipelines/digits-graft.py
# What is shipped is MMPretrain's own network, weights and config.
seed = 0

stages = [
    # The stock network, as anyone trains it.
    dict(name='stock', config='../reducenet/grafted/resnet18-w8_digits.py'),
    # It grows branches and starts as it is.
    dict(
        name='teacher',
        config='../reducenet/grafted/grafted-resnet18-w8-e4_digits_teacher.py',
        load_from='stock',
    ),
    # They go again: the teacher's weights, and its soft labels.
    dict(
        name='student',
        config='../reducenet/grafted/grafted-resnet18-w8-e4_digits_student.py',
    ),
]

# Both get the training multiply-adds of all stages together.
controls = [
    dict(name='plain', config='../reducenet/grafted/resnet18-w8_digits.py'),
    dict(
        name='plain_restart',
        config='../reducenet/grafted/resnet18-w8_digits.py',
        restart_at='teacher',
    ),
]
