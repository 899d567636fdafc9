# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# About as many multiply-adds as the teacher of expansion 8.
_base_ = './plain.py'

model = dict(backbone=dict(base_channels=4), head=dict(in_channels=16))
