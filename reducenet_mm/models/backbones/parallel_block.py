# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The block whose branch is added behind norm and activation."""

from __future__ import annotations

from torch import Tensor

from ..layers import ParallelConv2d, Replaceable
from .plain_block import PlainBlock


class ParallelBlock(Replaceable, PlainBlock):
    """``act(norm1(conv1(x))) + scaler * branch(x)``, then as a plain block.

    The branch is ``conv1.expand``, where ``conv1`` is a ``ParallelConv2d``
    that is put there after construction.

    Source: ``BasicBlock`` of the text on ReduceNet's third generation;
    its ``conv3`` and ``bn3`` are ``conv2`` and ``bn2`` here.
    """

    conv1: ParallelConv2d  # nn.Conv2d once switched to deploy

    def first_half(self, x: Tensor) -> Tensor:
        """Compute the sum of both branches."""
        out = super().first_half(x)
        return out if self.deploy else self.conv1.add_branch(out, x)

    def student(self) -> PlainBlock:
        """Return the block without the sum; it shares all layers."""
        block = PlainBlock(
            self.in_channels,
            self.out_channels,
            stride=self.stride,
            dilation=self.dilation,
            with_cp=self.with_cp,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
        )
        for name, child in self.named_children():
            setattr(block, name, child)
        block.deploy = self.deploy
        block.training = self.training  # the layers keep their own modes
        return block
