# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# One more network in each step, with a random scaler between 0 and 1: it
# learns from the labels and the teacher, as the student does. Costs as much
# as the teacher once more.
_base_ = './soft_labels.py'

inplace = dict(sandwich=1)
