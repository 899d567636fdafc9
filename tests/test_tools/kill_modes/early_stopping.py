# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Stops after 4 of 6 epochs: no later validation counts as an improvement.
_base_ = './teacher.py'

custom_hooks = [
    dict(
        type='ResumableEarlyStoppingHook',
        monitor='accuracy/top1',
        min_delta=1000,
        patience=3,
    )
]
