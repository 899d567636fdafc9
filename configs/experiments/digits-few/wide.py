# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# A third more multiply-adds than the teacher of expansion 8.
_base_ = './plain.py'

model = dict(backbone=dict(base_channels=10), head=dict(in_channels=40))
