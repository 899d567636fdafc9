# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# In place, the branches only supervise the student: no soft labels.
_base_ = './inplace_soft_labels.py'

model = dict(distiller=None, ramp=0.0)
