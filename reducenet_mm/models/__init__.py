# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Layers, views, backbones. ``algorithms`` is imported on demand only."""

from .backbones import GraftedBackbone, PlainResNet, ReduceNet
from .layers import ExpandBranch, LambdaReLU, ReduceConv2d
from .supernet import (
    STUDENT,
    TEACHER,
    View,
    apply_view,
    graft,
    set_scaler,
    ungraft,
    using_view,
)

__all__ = [
    'STUDENT',
    'TEACHER',
    'ExpandBranch',
    'GraftedBackbone',
    'LambdaReLU',
    'PlainResNet',
    'ReduceConv2d',
    'ReduceNet',
    'View',
    'apply_view',
    'graft',
    'set_scaler',
    'ungraft',
    'using_view',
]
