# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Every kind of ReduceNet block, as networks that tests of blocks share."""

from __future__ import annotations

from typing import Any

import torch

from reducenet_mm.models import ReduceNet
from tests.conftest import randomise_norms

EXACT = dict(rtol=0, atol=1e-10)
VARIANTS = {
    'postsum': dict(block='postsum'),
    'parallel': dict(block='parallel'),
    'sequential': dict(block='sequential'),
    'without norm': dict(block='sequential', inner_norm=False),
    'merged': dict(block='sequential', student_conv='merged'),
    'fresh': dict(block='sequential', student_conv='fresh'),
    'lora': dict(
        block='parallel',
        lora=dict(kind='kxk_1x1', inner_norm=True, outer_norm=True, act=True),
    ),
    'lora postsum': dict(block='postsum', lora=dict(kind='1x1')),
}


def build(
    name: str = 'sequential', depth: int = 8, **settings: Any
) -> ReduceNet:
    """A float64 network in eval mode, with no norm at its start."""
    settings = {**VARIANTS[name], 'base_channels': 4, **settings}
    net = randomise_norms(ReduceNet(depth, expansion=3, **settings))
    return net.double().eval()


def images() -> torch.Tensor:
    return torch.randn(2, 3, 12, 12, dtype=torch.double)
