# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# In place, with an activation between two convolutions of both networks.
_base_ = './inplace.py'

model = dict(architecture=dict(backbone=dict(block='sequential')))
