# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The same on 5,000 images of Fashion-MNIST, for two CPU cores:
#   python tools/reduce.py configs/pipelines/fashion-mnist.py
seed = 0

# Each stage starts from what the stage before it has left.
stages = [
    dict(
        name='teacher',
        config='../reducenet/fashion-mnist/reducenet8-w16-e4_fashion-mnist_teacher.py',
    ),
    dict(
        name='student',
        config='../reducenet/fashion-mnist/reducenet8-w16-e4_fashion-mnist_student.py',
    ),
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
        restart_at='student',
    ),
]
