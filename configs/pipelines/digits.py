# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The whole idea on real 8x8 images that need no download, in minutes:
#   python tools/reduce.py configs/pipelines/digits.py
seed = 0

# Each stage starts from what the stage before it has left.
stages = [
    dict(
        name='teacher',
        config='../reducenet/digits/reducenet8-w16-e4_digits_teacher.py',
    ),
    dict(
        name='student',
        config='../reducenet/digits/reducenet8-w16-e4_digits_student.py',
    ),
]

# Both get the training multiply-adds of all stages together.
controls = [
    dict(name='plain', config='../reducenet/digits/plain8-w16_digits.py'),
    dict(
        name='plain_restart',
        config='../reducenet/digits/plain8-w16_digits.py',
        restart_at='student',
    ),
]
