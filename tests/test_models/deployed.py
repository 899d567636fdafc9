# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Every kind of student that can be switched to deploy, for its tests."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from reducenet_mm import set_scaler, ungraft
from reducenet_mm.models import ReduceNet
from reducenet_mm.models.supernet import hosts
from tests.conftest import randomise_norms

LORAS = {
    'no lora': None,
    'kxk': dict(kind='kxk_1x1'),
    'kxk norms': dict(
        kind='kxk_1x1', inner_norm=True, outer_norm=True, act=True
    ),
    '1x1': dict(kind='1x1'),
    'weight': dict(kind='weight', expansion=0.5),
}
CASES = {
    **{
        f'{block} {name}': dict(block=block, lora=lora)
        for block in ('postsum', 'parallel')
        for name, lora in LORAS.items()
    },
    **{
        f'sequential {conv} {norm}': dict(
            block='sequential', student_conv=conv, inner_norm=norm
        )
        for conv in ('pair', 'merged', 'fresh')
        for norm in (True, False)
    },
}


def supernet(case: str = 'postsum no lora', **settings: Any) -> ReduceNet:
    """A float64 network as after training, in eval mode, its student on."""
    settings = {**CASES[case], **settings}
    settings = dict(depth=8, base_channels=4, expansion=2) | settings
    net = randomise_norms(ReduceNet(**settings))
    with torch.no_grad():
        for _, host in hosts(net):
            for name, parameter in host.named_parameters():
                if name == 'bias' or ('lora' in name and 'norm' not in name):
                    nn.init.normal_(parameter, std=0.3)
    set_scaler(net, 0.0)
    return net.double().eval()


def deployed(net: nn.Module) -> Any:
    net = copy.deepcopy(net)
    net.switch_to_deploy()
    return net


def norms_dropped(net: nn.Module) -> nn.Module:
    """The student with each norm left out instead of folded."""
    bare = ungraft(copy.deepcopy(net))
    for name, module in list(bare.named_modules()):
        if isinstance(module, _BatchNorm):
            parent, _, child = name.rpartition('.')
            setattr(bare.get_submodule(parent), child, nn.Identity())
    return bare
