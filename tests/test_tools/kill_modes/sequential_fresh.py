# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Only one new convolution of each block trains, from random values.
_base_ = './sequential_new_conv.py'

model = dict(architecture=dict(backbone=dict(student_conv='fresh')))
