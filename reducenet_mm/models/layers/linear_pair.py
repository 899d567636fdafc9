# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Two convolutions that are one where the activation between is linear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .expand_branch import conv_arguments
from .lambda_relu import LambdaReLU
from .merge import fold_norm, merge_sequential_1x1


class LinearPair(nn.Module):
    """``conv k x k (C_in -> width) -> [norm] -> [LambdaReLU] -> conv 1 x 1``.

    At ``LambdaReLU``'s gate 0 it merges exactly into one convolution of the
    host's shape; both convolutions have the host's groups.

    Args:
        host: The convolution to stand in for or beside. Only its geometry
            is read; it is not kept.
        width: Channels between the two convolutions.
        norm_cfg: Config of the batch norm between them; None for none.
        act: Whether a ``LambdaReLU`` is between them.
        bias: Whether the second convolution has a bias.

    Raises:
        ValueError: If the groups do not divide ``width``, or the norm
            cannot be folded.
    """

    def __init__(
        self,
        host: nn.Conv2d,
        width: int,
        norm_cfg: Mapping[str, Any] | None = None,
        act: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if width % host.groups:
            raise ValueError(
                f'{width} channels between two convolutions cannot be split '
                f'into the {host.groups} groups of the host. Choose '
                '`expansion` so that they can.'
            )
        geometry = conv_arguments(host)
        geometry.update(out_channels=width, bias=False)
        self.conv1 = nn.Conv2d(**geometry)
        self.norm1: nn.Module = (
            nn.Identity()
            if norm_cfg is None
            else build_foldable_norm(norm_cfg, width)
        )
        self.act: nn.Module = (
            LambdaReLU(inplace=True) if act else nn.Identity()
        )
        self.conv2 = nn.Conv2d(
            width, host.out_channels, 1, groups=host.groups, bias=bias
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the pair.

        Args:
            x: The host's input, ``(N, C_in, H, W)``.

        Returns:
            A tensor of the host's output shape ``(N, C_out, H', W')``.
        """
        return self.conv2(self.act(self.norm1(self.conv1(x))))

    @property
    def scaler(self) -> float:
        """The activation's gate; 0, linear, where there is none."""
        return self.act.scaler if isinstance(self.act, LambdaReLU) else 0.0

    @torch.no_grad()
    def merged(self) -> tuple[Tensor, Tensor | None]:
        """Return the one convolution that the pair is at gate 0.

        Returns:
            Weight ``(C_out, C_in / groups, kH, kW)`` and bias ``(C_out,)``
            or None, both in float64.
        """
        first, second = self.conv1, self.conv2
        weight, bias = folded(first.weight, first.bias, self.norm1)
        return merge_sequential_1x1(
            weight, bias, *folded(second.weight, second.bias), first.groups
        )


@torch.no_grad()
def folded(
    weight: Tensor, bias: Tensor | None, norm: nn.Module | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return a convolution with the norm after it folded in.

    Args:
        weight: ``(C_out, C_in / groups, kH, kW)``.
        bias: ``(C_out,)``.
        norm: A batch norm; an ``nn.Identity`` or None stands for none.

    Returns:
        Weight and bias in float64, the bias None if there is none.
    """
    weight, bias = weight.double(), _double(bias)
    if not isinstance(norm, _BatchNorm):
        return weight, bias
    return fold_norm(
        weight,
        bias,
        _double(norm.running_mean),
        _double(norm.running_var),
        norm.eps,
        _double(norm.weight),
        _double(norm.bias),
    )


def _double(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.double()


def build_foldable_norm(
    norm_cfg: Mapping[str, Any], channels: int
) -> _BatchNorm:
    """Build a norm that can be folded into the convolution before it.

    Raises:
        ValueError: If it is no batch norm with scale and statistics.
    """
    norm = build_norm_layer(dict(norm_cfg), channels)[1]
    if (
        not isinstance(norm, _BatchNorm)
        or not norm.track_running_stats
        or not norm.affine
    ):
        raise ValueError(
            f'norm_cfg={dict(norm_cfg)} builds a norm that cannot be folded '
            'into a convolution. Use a batch norm with scale and running '
            'statistics there, or none.'
        )
    return norm
