# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The blocks by name: a plain block, and what its first convolution becomes.

Every block keeps the keys of the plain one (``conv1``, ``bn1``, ``conv2``,
``bn2``, ``downsample``), so that roles, checkpoints and exports are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmpretrain.models.backbones.resnet import BasicBlock
from torch import nn

from ..layers import (
    Host,
    ParallelConv2d,
    ReduceConv2d,
    SequentialConv2d,
    SequentialPair,
)
from ..layers.sequential import STUDENT_CONVS
from .parallel_block import ParallelBlock
from .plain_block import PlainBlock

FIRST_CONVS = r'layer\d+\.\d+\.conv1'
"""Regular expression of the convolutions that hosts replace."""


@dataclass(frozen=True, kw_only=True)
class HostSettings:
    """Settings of the hosts, as ``ReduceNet`` takes them."""

    expansion: int
    norm_cfg: Mapping[str, Any]
    act_cfg: Mapping[str, Any]
    zero_init: bool
    lora: Mapping[str, Any] | None
    student_conv: str
    inner_norm: bool


@dataclass(frozen=True)
class Block:
    """One entry of the table of blocks.

    Attributes:
        base: The residual block around the host.
        build_host: Makes the host out of the block's first convolution,
            with all that its settings ask for.
        zero_init: Whether the branch can start at zero output and still
            learn, ``backbone.zero_init_expand``.
        lora: Whether ``backbone.lora`` can be beside the convolution.
        pair: Whether the host is two convolutions that merge into one,
            ``backbone.student_conv`` and ``backbone.inner_norm``.
    """

    base: type[BasicBlock]
    build_host: Callable[[nn.Conv2d, HostSettings], Host]
    zero_init: bool = False
    lora: bool = True
    pair: bool = False

    @property
    def out_act(self) -> bool:
        """Whether an activation follows the block's sum."""
        return not issubclass(self.base, PlainBlock)


def _side_branch(
    host: type[ReduceConv2d], conv: nn.Conv2d, settings: HostSettings
) -> Host:
    return host.from_conv(
        conv,
        settings.expansion,
        norm_cfg=settings.norm_cfg,
        act_cfg=settings.act_cfg,
        zero_init=settings.zero_init,
        lora=settings.lora,
    )


def _postsum(conv: nn.Conv2d, settings: HostSettings) -> Host:
    return _side_branch(ReduceConv2d, conv, settings)


def _parallel(conv: nn.Conv2d, settings: HostSettings) -> Host:
    return _side_branch(ParallelConv2d, conv, settings)


def _sequential(conv: nn.Conv2d, settings: HostSettings) -> Host:
    norm_cfg = settings.norm_cfg if settings.inner_norm else None
    if settings.student_conv == 'pair':
        return SequentialPair(conv, settings.expansion, norm_cfg)
    merged = settings.student_conv == 'merged'
    return SequentialConv2d(conv, settings.expansion, norm_cfg, merged)


BLOCKS = {
    'postsum': Block(BasicBlock, _postsum, zero_init=True),
    'parallel': Block(ParallelBlock, _parallel),
    'sequential': Block(PlainBlock, _sequential, lora=False, pair=True),
}
"""Name -> block."""


def check_block(block: str) -> None:
    """Raise ``ValueError`` unless ``block`` is a key of ``BLOCKS``."""
    if block not in BLOCKS:
        raise ValueError(
            f'unknown block {block!r}. Set `backbone.block` to one of '
            f'{sorted(BLOCKS)}.'
        )


def check_host_settings(
    block: str,
    student_conv: str,
    inner_norm: bool,
    lora: Mapping[str, Any] | None,
    zero_init: bool,
) -> None:
    """Raise ``ValueError`` unless ``block`` can have these settings."""
    if student_conv not in STUDENT_CONVS:
        raise ValueError(
            f'backbone.student_conv must be one of {STUDENT_CONVS}, got '
            f'{student_conv!r}.'
        )
    if student_conv != 'pair' and not BLOCKS[block].pair:
        raise ValueError(
            f'backbone.student_conv={student_conv!r} is for block='
            f'{_blocks_with("pair")} only, got block={block!r}: its student '
            'has a convolution of its own anyway.'
        )
    if not inner_norm and not BLOCKS[block].pair:
        raise ValueError(
            'backbone.inner_norm=False is for block='
            f'{_blocks_with("pair")} only, got block={block!r}: its branches '
            'have norms wherever backbone.norm_cfg says so.'
        )
    if lora is not None and not BLOCKS[block].lora:
        raise ValueError(
            f'backbone.lora={dict(lora)} with block={block!r}: a lora branch '
            f'is beside the convolution of {_blocks_with("lora")}.'
        )
    if zero_init and not BLOCKS[block].zero_init:
        raise ValueError(
            'backbone.zero_init_expand=True is for block='
            f'{_blocks_with("zero_init")} only, got block={block!r}: '
            'elsewhere nothing can start at zero and still learn.'
        )


def _blocks_with(setting: str) -> str:
    """Name the blocks that can have a setting."""
    names = [repr(k) for k, one in BLOCKS.items() if getattr(one, setting)]
    return ' or '.join(names)
