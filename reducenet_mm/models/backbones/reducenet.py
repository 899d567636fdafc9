# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""ReduceNet: a ResNet whose blocks carry branches; teacher and student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reducenet_mm.registry import BACKBONES

from ..layers.expand_branch import check_expansion
from ..supernet import (
    check_scaler,
    graft,
    reset_branches,
    set_scaler,
)
from .plain_resnet import PlainResNet
from .reduce_blocks import BLOCKS, check_block


@BACKBONES.register_module()
class ReduceNet(PlainResNet):
    """Large teacher at ``scaler = 1``, small student at ``scaler = 0``.

    The student is exactly a :class:`PlainResNet`; dropping the keys with
    ``.expand.`` in them turns a checkpoint of one into that of the other.
    The student's cost does not depend on ``expansion``.

    Source: ``ohmydroid/reducenet``. We deviate in that at ``scaler = 0`` the
    branch is not computed, and in MMPretrain's names and initialisation.

    Args:
        depth: 18, 34 or 6n+2 from 8 to 110; see :class:`PlainResNet`,
            likewise all arguments that are not named here.
        expansion: Width of the branches in multiples of the block's output
            channels, an integer >= 1: how strong the teacher gets.
        block: Name of the block, a key of ``reduce_blocks.BLOCKS``.
        scaler: Which network to start as, in [0, 1].
        zero_init_expand: Start the branches at zero output, so that the
            teacher begins as the student; for growing a trained network.

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
        init_cfg: Any = None,
    ) -> None:
        check_block(block)
        check_expansion(expansion)
        check_scaler(scaler)
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
            init_cfg=init_cfg,
        )
        graft(
            self,
            BLOCKS[block],
            expansion,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
            zero_init=zero_init_expand,
        )
        set_scaler(self, scaler)
        self._freeze_stages()

    def init_weights(self) -> None:
        """Initialise as MMPretrain does, then the branches' output scale."""
        super().init_weights()
        if not self._is_pretrained():
            reset_branches(self)

    def _is_pretrained(self) -> bool:
        init_cfg = self.init_cfg
        return (
            isinstance(init_cfg, Mapping)
            and init_cfg.get('type') == 'Pretrained'
        )
