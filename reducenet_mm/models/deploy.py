# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The deployed student: all that merges merged, every norm folded.

Deployed in the sense of MMPretrain's ``reparameterize_model.py``: what is
left of a residual network are convolutions with biases, and activations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from mmpretrain.models.backbones.resnet import (
    BasicBlock,
    Bottleneck,
    ResNet,
)
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .layers.expand_branch import conv_arguments
from .layers.host import check_is_student
from .layers.host_conv import plain_conv
from .layers.linear_pair import folded
from .replace import replace_module
from .structure import prefix_of
from .supernet import student_modules

_BLOCK_PAIRS = {f'conv{i}': f'norm{i}_name' for i in (1, 2, 3)}
"""Convolution of a residual block -> where it says how its norm is called."""


class Deployable:
    """What backbones and blocks share that can be switched to deploy.

    Attributes:
        deploy: Whether the module has been switched, or was built so.
        merges_branches: Says that the switch reckons with branches.
    """

    deploy: bool = False
    merges_branches: ClassVar[bool] = True

    def switch_to_deploy(self) -> None:
        """Leave convolutions with biases and activations only, in place.

        Computes what the student computes in eval mode. Does nothing on a
        module already switched. On failure the module is unchanged.

        Raises:
            RuntimeError: If the module does not compute as the student does.
            ValueError: If a norm in it cannot be folded.
        """
        if self.deploy:
            return
        assert isinstance(self, nn.Module)
        check_is_student(self)
        for name, module in deployed_modules(self).items():
            replace_module(self, name, module)
        for module in self.modules():
            if isinstance(module, Deployable):
                module.deploy = True


def deployed_modules(network: nn.Module) -> dict[str, nn.Module]:
    """Return by name what stands inside ``network`` once it is deployed.

    Args:
        network: A ResNet, or one of its blocks, with or without branches; it
            is not changed.

    Returns:
        As ``supernet.student_modules``: convolutions with what merges
        merged and the norm after them folded in, and an ``nn.Identity`` for
        each norm.

    Raises:
        ValueError: If a norm cannot be folded.
    """
    modules = student_modules(network)
    for conv_name, norm_name in conv_norm_pairs(network):
        conv = modules.get(conv_name, network.get_submodule(conv_name))
        assert isinstance(conv, nn.Conv2d)
        norm = network.get_submodule(norm_name)
        modules[conv_name] = fold_conv(conv, norm, norm_name)
        modules[norm_name] = nn.Identity().train(norm.training)
    return modules


def conv_norm_pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of each convolution and of the norm after it.

    Of a ResNet's stem, unless it is deep, and of basic and bottleneck blocks.
    """
    for name, module in network.named_modules():
        prefix = prefix_of(name)
        if isinstance(module, ResNet):
            if module.deep_stem:
                continue
            yield f'{prefix}conv1', prefix + module.norm1_name
        elif isinstance(module, (BasicBlock, Bottleneck)):
            for conv, name_of_norm in _BLOCK_PAIRS.items():
                norm = getattr(module, name_of_norm, '')
                # What is built on these blocks lacks some of their parts.
                if hasattr(module, conv) and hasattr(module, norm):
                    yield f'{prefix}{conv}', f'{prefix}{norm}'
            if module.downsample is not None:
                last = len(module.downsample) - 1
                shortcut = f'{prefix}downsample'
                yield f'{shortcut}.{last - 1}', f'{shortcut}.{last}'


@torch.no_grad()
def fold_conv(conv: nn.Conv2d, norm: nn.Module, name: str) -> nn.Conv2d:
    """Return a convolution with the norm after it folded in.

    Args:
        conv: A plain convolution; it is not changed.
        norm: A batch norm with statistics; an ``nn.Identity`` stands for
            one folded before.
        name: Of the norm, for the error.

    Returns:
        A new convolution, always with a bias.

    Raises:
        ValueError: If ``norm`` is anything else.
    """
    statistics = isinstance(norm, _BatchNorm) and norm.track_running_stats
    if not statistics and not isinstance(norm, nn.Identity):
        raise ValueError(
            f'cannot deploy: `{name}`, a {type(norm).__name__}, is no batch '
            'norm with running statistics, so it cannot be folded into a '
            'convolution. Set `backbone.norm_cfg` to one, or leave out '
            '`backbone.deploy`.'
        )
    weight, bias = folded(conv.weight, conv.bias, norm)
    if bias is None:
        bias = weight.new_zeros(len(weight))
    plain = plain_conv(conv_arguments(conv), weight, bias, conv.weight)
    return plain.train(conv.training)
