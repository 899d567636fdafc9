# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The teacher is the independent larger network.
_base_ = './two_networks.py'

model = dict(
    teacher=dict(backbone=dict(base_channels=10), head=dict(in_channels=40))
)
