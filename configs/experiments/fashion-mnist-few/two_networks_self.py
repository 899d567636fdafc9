# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The plain network goes on from its own weights and learns from them too.
_base_ = './two_networks.py'

model = dict(architecture=dict(init_cfg=dict(type='Pretrained')))
