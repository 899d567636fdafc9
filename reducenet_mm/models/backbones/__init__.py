# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
from .plain_resnet import PlainResNet
from .reducenet import ReduceNet

__all__ = ['PlainResNet', 'ReduceNet']
