# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The teacher is the supernet's.
_base_ = './two_networks.py'

model = dict(
    teacher=dict(
        backbone=dict(
            _delete_=True,
            type='ReduceNet',
            depth=8,
            base_channels=8,
            expansion=8,
            in_channels=1,
        )
    )
)
