# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Networks that are teacher and student, and what trains them.

``layers``, then the files here, of which ``supernet`` alone writes gates, then
``backbones``; ``algorithms`` imports MMRazor, and so is imported on demand.
"""

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
