# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Blocks with an activation between two convolutions.
_base_ = './teacher.py'

model = dict(backbone=dict(block='sequential'))
