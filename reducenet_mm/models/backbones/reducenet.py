# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""ReduceNet: a ResNet whose blocks carry branches; teacher and student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmpretrain.models.backbones.resnet import BasicBlock

from reducenet_mm.registry import BACKBONES

from ..idle_branches import settle_branches
from ..layers.expand_branch import check_expansion
from ..supernet import (
    check_scaler,
    replace_convs,
    reset_branches,
    set_scaler,
)
from .plain_resnet import PlainResNet
from .reduce_blocks import (
    BLOCKS,
    FIRST_CONVS,
    HostSettings,
    check_block,
    check_host_settings,
)


@BACKBONES.register_module()
class ReduceNet(PlainResNet):
    """Large teacher at ``scaler = 1``, small student at ``scaler = 0``.

    The student is exactly a :class:`PlainResNet`. Dropping the keys with
    ``.expand.`` in them turns a checkpoint of one into that of the other,
    unless something has to merge (``lora``, the pair of ``sequential``). The
    shipped student's cost does not depend on ``expansion``.

    Blocks, with x the input and S(x) the shortcut:

    - ``postsum``: the branch is added to the first convolution, before the
      norm; a ResNet with grafted convolutions.
    - ``parallel``: the branch, which ends in an activation, is added behind
      the first norm and activation. No activation follows ``+ S(x)``.
    - ``sequential``: ``conv3x3 -> [norm] -> LambdaReLU -> conv1x1`` instead
      of the first convolution, one convolution when linear. No activation
      follows ``+ S(x)``.

    Source: ``ohmydroid/reducenet`` and the text on it. We deviate in that
    at ``scaler = 0`` the branch is not computed, and in MMPretrain's names
    and initialisation.

    Args:
        depth: 18, 34 or 6n+2 from 8 to 110, but not 50; see
            :class:`PlainResNet`, likewise all arguments not named here.
        expansion: Width of the branches in multiples of the block's output
            channels, an integer >= 1: what the teacher costs. The
            attribute ``expansion`` is MMPretrain's, that of its blocks.
        block: Name of the block, a key of ``reduce_blocks.BLOCKS``.
        scaler: Which network to start as, in [0, 1].
        zero_init_expand: Start the branches at zero output, so that the
            teacher begins as the student; for growing a trained network,
            such as a stock checkpoint. For the block ``postsum``.
        lora: Settings of a branch for a third stage, which merges into the
            first convolution of each block: see :class:`LoraBranch`, with
            ``kind`` and ``expansion``. None for no such branch. Not for
            the block ``sequential``.
        student_conv: What the block ``sequential`` has for a student:
            ``'pair'``, the teacher's two convolutions, linear at scaler 0;
            ``'merged'`` or ``'fresh'``, one new convolution, which begins
            as the two merged or anew.
        inner_norm: Whether a norm follows the first convolution of the
            block ``sequential``.
        deploy: Build the deployed student alone, see :class:`PlainResNet`;
            ``scaler`` and the settings of branches have no effect then.

    Raises:
        ValueError: If an argument is not one of those above.

    Examples:
        >>> import torch
        >>> from reducenet_mm import set_scaler
        >>> from reducenet_mm.models import ReduceNet
        >>> net = ReduceNet(depth=8, expansion=4).eval()
        >>> teacher = net(torch.rand(1, 3, 32, 32))
        >>> set_scaler(net, 0.0)
        >>> student = net(torch.rand(1, 3, 32, 32))
        >>> print(tuple(teacher[0].shape), tuple(student[0].shape))
        (1, 64, 8, 8) (1, 64, 8, 8)
    """

    def __init__(
        self,
        depth: int,
        base_channels: int | None = None,
        expansion: int = 1,
        block: str = 'postsum',
        scaler: float = 1.0,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = None,
        zero_init_residual: bool = True,
        zero_init_expand: bool = False,
        lora: Mapping[str, Any] | None = None,
        student_conv: str = 'pair',
        inner_norm: bool = True,
        deploy: bool = False,
        init_cfg: Any = None,
    ) -> None:
        check_block(block)
        check_expansion(expansion)
        check_scaler(scaler)
        check_host_settings(
            block, student_conv, inner_norm, lora, zero_init_expand
        )
        self.block_name = block
        super().__init__(
            depth,
            base_channels=base_channels,
            in_channels=in_channels,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            zero_init_residual=zero_init_residual,
            deploy=deploy,
            init_cfg=init_cfg,
        )
        if deploy:
            return
        settings = HostSettings(
            expansion=expansion,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
            zero_init=zero_init_expand,
            lora=lora,
            student_conv=student_conv,
            inner_norm=inner_norm,
        )
        build_host = BLOCKS[block].build_host
        replace_convs(
            self, FIRST_CONVS, lambda conv: build_host(conv, settings)
        )
        set_scaler(self, scaler)
        self._freeze_stages()
        settle_branches(self)

    def _block_class(self, out_act: bool) -> type[BasicBlock]:
        return BLOCKS[self.block_name].base

    def init_weights(self) -> None:
        """Initialise as MMPretrain does, then the branches' output scale."""
        already = self.is_init
        super().init_weights()
        if not already and not self._is_pretrained():
            reset_branches(self)
