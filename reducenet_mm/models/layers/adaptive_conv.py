# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The graft of MMCV's convolution with padding after the image's size."""

from __future__ import annotations

import torch
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from torch import Tensor, nn
from torch.nn.functional import pad

from .reduce_conv import ReduceConv2d


class AdaptiveReduceConv2d(ReduceConv2d, nn.Conv2d):
    """A ``ReduceConv2d`` in the place of a ``Conv2dAdaptivePadding``.

    The input is padded for the main convolution, then taken by all branches:
    their own padding comes on top of that.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution and the branches that are on.

        Args:
            x: Input, ``(N, C_in, H, W)``.

        Returns:
            Output, ``(N, C_out, ceil(H / stride), ceil(W / stride))``.
        """
        return super().forward(self.padded(x))

    def padded(self, x: Tensor) -> Tensor:
        """Add zeros around ``x`` until the kernel covers all of it."""
        sides: list[int] = []
        for size, kernel, stride, dilation in zip(
            x.shape[2:], self.kernel_size, self.stride, self.dilation
        ):
            steps = -(-size // stride) - 1
            covered = steps * stride + dilation * (kernel - 1) + 1
            lacking = max(covered - size, 0)
            sides = [lacking // 2, lacking - lacking // 2, *sides]
        return pad(x, sides) if any(sides) else x

    def student_conv(self) -> nn.Conv2d:
        """Return the student's convolution, a ``Conv2dAdaptivePadding``."""
        merged = super().student_conv()
        with torch.device('meta'):
            conv = Conv2dAdaptivePadding(
                merged.in_channels,
                merged.out_channels,
                merged.kernel_size,
                stride=merged.stride,
                dilation=merged.dilation,
                groups=merged.groups,
                bias=merged.bias is not None,
            )
        conv._parameters.update(merged._parameters)
        return conv.train(merged.training)
