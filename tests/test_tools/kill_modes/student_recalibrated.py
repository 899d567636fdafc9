# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Labels only, norm statistics recalibrated at the switch.
_base_ = './student.py'

model = dict(norm_stats='recalibrated', distiller=None)
