# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Grow, shrink, distil (June 2023), on real 8x8 images:
#   python tools/reduce.py configs/pipelines/digits-grow-shrink.py
seed = 0

stages = [
    # The small network.
    dict(name='small', config='../reducenet/digits/plain8-w16_digits.py'),
    # It grows branches. They start at zero, so that the teacher begins as the
    # small network; nothing but they may be missing in its checkpoint.
    dict(
        name='teacher',
        config='../reducenet/digits/reducenet8-w16-e4_digits_teacher.py',
        load_from='small',
        cfg_options={'model.backbone.zero_init_expand': True},
    ),
    # The branches go. What is left is frozen and only `lora` trains, on soft
    # labels of the teacher; it merges into the small network.
    dict(
        name='student',
        config='../reducenet/digits/reducenet8-w16-e4_digits_lora.py',
    ),
]

# Both get the training multiply-adds of all stages together.
controls = [
    dict(name='plain', config='../reducenet/digits/plain8-w16_digits.py'),
    dict(
        name='plain_restart',
        config='../reducenet/digits/plain8-w16_digits.py',
        restart_at='teacher',
    ),
]
