# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
from .grafted import GraftedBackbone
from .plain_resnet import PlainResNet
from .reducenet import ReduceNet

__all__ = ['GraftedBackbone', 'PlainResNet', 'ReduceNet']
