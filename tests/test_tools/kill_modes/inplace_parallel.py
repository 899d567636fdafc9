# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# In place, in blocks with an activation behind the branch.
_base_ = './inplace.py'

model = dict(architecture=dict(backbone=dict(block='parallel')))
