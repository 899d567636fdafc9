# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Only the first convolution of each block trains, from random values.
_base_ = './student.py'

FROZEN = ['stem', 'second_conv', 'norms', 'shortcut', 'classifier']
model = dict(reuse=dict(inherit=FROZEN, freeze=FROZEN))
