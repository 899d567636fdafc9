# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Used as scaler/linear.py. Branches are kept or gone; which one goes next is
# learned, and in half of the training all of them go.
scaler_schedule = dict(type='LearnedMaskHook')
