# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A basic block which ends in its sum: an ordinary block, no branches."""

from __future__ import annotations

from mmpretrain.models.backbones.resnet import BasicBlock
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..deploy import Deployable


class PlainBlock(Deployable, BasicBlock):
    """MMPretrain's ``BasicBlock`` without the activation after the sum.

    ``conv1 -> norm1 -> act -> conv2 -> norm2 -> + shortcut``, with the same
    arguments and keys.

    Source: the block of ReduceNet's ``parallel`` and ``sequential``
    students, in which no activation follows the sum.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x: Input, ``(N, C_in, H, W)``.

        Returns:
            Output, ``(N, C_out, H', W')``.
        """
        if self.with_cp and x.requires_grad:
            return checkpoint(self._sum, x, use_reentrant=False)
        return self._sum(x)

    def first_half(self, x: Tensor) -> Tensor:
        """Compute all that comes before the second convolution."""
        return self.relu(self.norm1(self.conv1(x)))

    def _sum(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(self.first_half(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.drop_path(out) + shortcut
