# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Linear branches that train beside a frozen convolution and merge into it."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reducenet_mm.plain_numbers import is_number

from .expand_branch import conv_arguments
from .host import Gated
from .linear_pair import LinearPair, build_foldable_norm, folded
from .merge import check_centred
from .zero_start import ZeroStart

Conv = tuple[Tensor, Tensor | None]


class LoraBranch(Gated, ZeroStart):
    """Base of the kinds: on in the student, off in the teacher.

    Each starts at exactly zero, so that it changes no output.
    """

    gate = 'lora'

    def __init__(self) -> None:
        super().__init__()
        self.scaler = 0.0

    @abstractmethod
    def merged(self) -> Conv:
        """Return the convolution that the branch adds to its host's.

        Returns:
            Weight, to be added by ``merge.add_parallel``, and bias
            ``(C_out,)`` or None, both in float64.
        """


class PairLora(LoraBranch):
    """``conv k x k -> [norm] -> [LambdaReLU] -> conv 1 x 1 -> [norm]``.

    Unlike the usual LoRA its channels go up, then down: it is to add
    capacity. With ``act`` it merges once ``LambdaReLU`` is at 0.

    Args:
        host: The convolution beside which it stands; only read.
        expansion: Inner channels in multiples of the host's outputs, > 0.
        inner_norm: Whether a batch norm follows the first convolution.
        outer_norm: Whether a batch norm follows the second one.
        act: Whether a ``LambdaReLU`` is between the two.
        norm_cfg: Config of the batch norms.

    Raises:
        ValueError: If an argument is not one of those above.
    """

    def __init__(
        self,
        host: nn.Conv2d,
        expansion: float = 1.0,
        inner_norm: bool = False,
        outer_norm: bool = False,
        act: bool = False,
        norm_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        norm_cfg = norm_cfg or dict(type='BN')
        width = _inner_width(expansion, host.out_channels)
        self.pair = LinearPair(
            host, width, norm_cfg if inner_norm else None, act
        )
        self.norm: _BatchNorm | nn.Identity = (
            build_foldable_norm(norm_cfg, host.out_channels)
            if outer_norm
            else nn.Identity()
        )
        self.reset_output()

    def last_parameters(self) -> tuple[Tensor, ...]:
        """Return scale and shift of the outer norm, or the last weight."""
        if isinstance(self.norm, nn.Identity):
            return (self.pair.conv2.weight,)
        return self.norm.weight, self.norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """Compute the branch: ``(N, C_in, H, W) -> (N, C_out, H', W')``."""
        return self.norm(self.pair(x))

    @torch.no_grad()
    def merged(self) -> Conv:
        return folded(*self.pair.merged(), self.norm)


class PointLora(LoraBranch):
    """``conv 1 x 1 -> batch norm``.

    Source: the head of ``ohmydroid/reducenet``.

    Args:
        host: The convolution beside which it stands; only read.
        norm_cfg: Config of the batch norm.

    Raises:
        ValueError: If the host's kernel is not centred, so that nothing
            could be merged into it.
    """

    def __init__(
        self, host: nn.Conv2d, norm_cfg: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        check_centred(host.kernel_size, host.padding, host.dilation)
        geometry = conv_arguments(host)
        geometry.update(kernel_size=1, padding=0, dilation=1, bias=False)
        self.conv = nn.Conv2d(**geometry)
        self.norm = build_foldable_norm(
            norm_cfg or dict(type='BN'), host.out_channels
        )
        self.reset_output()

    def last_parameters(self) -> tuple[Tensor, ...]:
        """Return scale and shift of the norm."""
        return self.norm.weight, self.norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """Compute the branch: ``(N, C_in, H, W) -> (N, C_out, H', W')``."""
        return self.norm(self.conv(x))

    def merged(self) -> Conv:
        return folded(self.conv.weight, None, self.norm)


class WeightLora(LoraBranch):
    """``up @ down``, added to the host's weight: no further convolution.

    Args:
        host: The convolution whose weight is updated; only read.
        expansion: Rank in multiples of the host's outputs: below 1 it is
            the usual LoRA, from 1 on the update has more parameters than
            the weight.

    Raises:
        ValueError: If ``expansion`` is no number > 0.
    """

    def __init__(self, host: nn.Conv2d, expansion: float = 1.0) -> None:
        super().__init__()
        rank = _inner_width(expansion, host.out_channels)
        self.shape = tuple(host.weight.shape)
        fan_in = host.weight[0].numel()
        self.down = nn.Parameter(torch.empty(rank, fan_in))
        self.up = nn.Parameter(torch.empty(host.out_channels, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)  # as nn.Conv2d's own
        self.reset_output()

    def last_parameters(self) -> tuple[Tensor, ...]:
        """Return ``up``."""
        return (self.up,)

    def update(self) -> Tensor:
        """Return what is added to the weight, in its shape."""
        return (self.up @ self.down).reshape(self.shape)

    @torch.no_grad()
    def merged(self) -> Conv:
        product = self.up.double() @ self.down.double()
        return product.reshape(self.shape), None


LORA_KINDS: dict[str, Callable[..., LoraBranch]] = {
    'kxk_1x1': PairLora,
    '1x1': PointLora,
    'weight': WeightLora,
}
"""Value of ``kind`` -> branch; its arguments are the further settings."""


def build_lora(
    host: nn.Conv2d,
    settings: Mapping[str, Any],
    norm_cfg: Mapping[str, Any] | None = None,
) -> LoraBranch:
    """Build the branch beside ``host`` from a config.

    Args:
        host: A convolution; only read.
        settings: ``kind``, a key of ``LORA_KINDS``, and arguments of it.
        norm_cfg: Config of its norms unless ``settings`` has one.

    Raises:
        ValueError: If ``settings`` has an unknown kind, key or value, or
            norms with another ``eps`` than ``norm_cfg``.
    """
    given = dict(settings)
    kind = given.pop('kind', None)
    if kind not in LORA_KINDS:
        raise ValueError(
            f'lora.kind must be one of {sorted(LORA_KINDS)}, got {kind!r}.'
        )
    known = [*inspect.signature(LORA_KINDS[kind]).parameters][1:]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(
            f'lora has unknown keys {unknown} for kind={kind!r}; known are '
            f'{known}.'
        )
    if 'norm_cfg' in known:
        given.setdefault('norm_cfg', norm_cfg)
        _check_eps(given['norm_cfg'], norm_cfg)
    return LORA_KINDS[kind](host, **given)


def settings_of(
    state: Mapping[str, Tensor], out_channels: int
) -> dict[str, Any] | None:
    """Return settings of the branch that a state dict belongs to.

    Args:
        state: The branch's own, without a prefix.
        out_channels: Of its host.

    Returns:
        What :func:`build_lora` takes, or None if no kind has such keys.
        ``act`` has no keys and is left out: the student is linear anyway.
    """
    if 'up' in state:
        rank = state['up'].shape[-1]
        return dict(kind='weight', expansion=rank / out_channels)
    if 'conv.weight' in state:
        return dict(kind='1x1')
    if 'pair.conv1.weight' in state:
        width = len(state['pair.conv1.weight'])
        return dict(
            kind='kxk_1x1',
            expansion=width / out_channels,
            inner_norm='pair.norm1.weight' in state,
            outer_norm='norm.weight' in state,
        )
    return None


def _check_eps(
    own: Mapping[str, Any] | None, backbones: Mapping[str, Any] | None
) -> None:
    """Raise unless both norms have the same ``eps``.

    A later stage merges the branch out of a checkpoint, which has no eps.
    """
    one, other = ((cfg or {}).get('eps', 1e-5) for cfg in (own, backbones))
    if one != other:
        raise ValueError(
            f'lora.norm_cfg has eps={one}, but the norms around it have '
            f'eps={other} (backbone.norm_cfg). Leave it out of lora.norm_cfg.'
        )


def _inner_width(expansion: float, out_channels: int) -> int:
    if not is_number(expansion) or not expansion > 0:
        raise ValueError(
            f'lora.expansion must be a number > 0, got {expansion!r}: the '
            "inner width in multiples of the host's output channels."
        )
    return max(1, round(expansion * out_channels))
