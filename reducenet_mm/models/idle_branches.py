# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Branches that a network's own settings keep from learning."""

from __future__ import annotations

import logging

from mmengine.logging import print_log
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .layers.host import hosts


def settle_branches(model: nn.Module) -> None:
    """Freeze branches with their hosts; warn of those that cannot learn.

    Args:
        model: A network with its branches in place, and with the stages
            frozen that its ``frozen_stages`` says.
    """
    _freeze_with_hosts(model)
    _warn_of_idle_norms(model)


def _freeze_with_hosts(model: nn.Module) -> None:
    """Freeze the branches beside convolutions that are frozen."""
    frozen = []
    for name, host in hosts(model):
        own = list(host.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            host.requires_grad_(False)
            frozen.append(name)
    if frozen:
        print_log(
            f'{len(frozen)} branches of {type(model).__name__} are beside '
            'frozen convolutions and do not train, the first beside '
            f'`{frozen[0]}`. Where they start at zero they add nothing; '
            'where they do not, they add random values unless a teacher is '
            'loaded: lower frozen_stages, leave them out of the targets of '
            "graft (backbone.targets), or, of a ReduceNet of block 'postsum', "
            'set backbone.zero_init_expand=True.',
            logger='current',
            level=logging.WARNING,
        )


def _warn_of_idle_norms(model: nn.Module) -> None:
    """Say where branches' batch norms would never see an image."""
    idle = getattr(model, 'norm_eval', False) and any(
        isinstance(norm, _BatchNorm)
        for _, host in hosts(model)
        for norm in host.expand.modules()
    )
    if idle:
        print_log(
            f"norm_eval=True of {type(model).__name__} keeps the branches' "
            'batch norms at the statistics they begin with, mean 0 and '
            'variance 1, unless a teacher is loaded. Set norm_eval=False of '
            'the backbone, or give the branches norms without statistics: '
            "backbone.norm_cfg=dict(type='GN', num_groups=32).",
            logger='current',
            level=logging.WARNING,
        )
