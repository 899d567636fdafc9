# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The plain network goes on from its own weights and learns from them too.
_base_ = './two_networks.py'

model = dict(
    architecture=dict(init_cfg=dict(type='Pretrained')),
    teacher=dict(
        backbone=dict(
            _delete_=True,
            type='PlainResNet',
            depth=8,
            base_channels=2,
            in_channels=1,
        )
    ),
)
