# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Grow, shrink, distil on 5,000 images of Fashion-MNIST, for two CPU cores:
#   python tools/reduce.py configs/pipelines/fashion-mnist-grow-shrink.py
seed = 0

stages = [
    # The small network.
    dict(
        name='small',
        config='../reducenet/fashion-mnist/plain8-w16_fashion-mnist.py',
    ),
    # It grows branches. They start at zero, so that the teacher begins as the
    # small network; nothing but they may be missing in its checkpoint.
    dict(
        name='teacher',
        config='../reducenet/fashion-mnist/reducenet8-w16-e4_fashion-mnist_teacher.py',
        load_from='small',
        cfg_options={'model.backbone.zero_init_expand': True},
    ),
    # The branches go. What is left is frozen and only `lora` trains, on soft
    # labels of the teacher; it merges into the small network.
    dict(name='student', config='./stages/fashion-mnist_lora.py'),
]

# Both get the training multiply-adds of all stages together.
controls = [
    dict(
        name='plain',
        config='../reducenet/fashion-mnist/plain8-w16_fashion-mnist.py',
    ),
    dict(
        name='plain_restart',
        config='../reducenet/fashion-mnist/plain8-w16_fashion-mnist.py',
        restart_at='teacher',
    ),
]
