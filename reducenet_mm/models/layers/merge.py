# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Exact merges of linear convolutions, as functions of their tensors.

Weights have torch's layout ``(C_out, C_in / groups, kH, kW)``, biases are
``(C_out,)`` or ``None`` for none. Nothing is changed in place and dtypes are
kept: convert to float64 first where rounding matters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_weights

Padding = int | str | Sequence[int]


def fold_norm(
    weight: Tensor,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Fold the batch norm after a convolution into it.

    Exact for the norm in eval mode, whatever the convolution's geometry.

    Args:
        weight: The convolution's, ``(C_out, C_in / groups, kH, kW)``.
        bias: The convolution's, ``(C_out,)``.
        running_mean: The norm's, ``(C_out,)``; likewise ``running_var``.
        eps: The norm's.
        scale: The norm's ``weight``, ``(C_out,)``, or None for ones.
        shift: The norm's ``bias``, ``(C_out,)``, or None for zeros.

    Returns:
        Weight of the same shape, and bias ``(C_out,)``.

    Raises:
        ValueError: If the norm has no running statistics or other channels.
    """
    if running_mean is None or running_var is None:
        raise ValueError(
            'cannot fold a norm without running statistics: it follows each '
            'batch. Set track_running_stats=True in its `norm_cfg`.'
        )
    if running_mean.shape != weight.shape[:1]:
        raise ValueError(
            f'cannot fold a norm of {len(running_mean)} channels into a '
            f'convolution with {len(weight)} outputs.'
        )
    folded = fuse_conv_bn_weights(
        weight, bias, running_mean, running_var, eps, scale, shift
    )
    return folded[0].detach(), folded[1].detach()


def absorb_bias(bias: Tensor, running_mean: Tensor) -> Tensor:
    """Let the batch norm after a convolution take over the latter's bias.

    Exact for the norm in eval mode; in training mode a bias before a norm
    has no effect at all.

    Args:
        bias: The convolution's, ``(C_out,)``.
        running_mean: The norm's, ``(C_out,)``.

    Returns:
        The norm's new running mean, ``(C_out,)``.

    Raises:
        ValueError: If the numbers of channels differ.
    """
    if bias.shape != running_mean.shape:
        raise ValueError(
            f'cannot absorb a bias of {len(bias)} channels in a norm of '
            f'{len(running_mean)}.'
        )
    return running_mean - bias


def merge_sequential_1x1(
    first: Tensor,
    first_bias: Tensor | None,
    second: Tensor,
    second_bias: Tensor | None = None,
    groups: int = 1,
) -> tuple[Tensor, Tensor | None]:
    """Merge a k x k convolution and a 1 x 1 convolution after it.

    The result has the padding, dilation and padding mode of the first one
    and the product of the strides. Exact for all of these, since the second
    one sees no padding.

    Args:
        first: ``(M, C_in / groups, kH, kW)``.
        first_bias: ``(M,)``.
        second: ``(C_out, M / groups, 1, 1)``, without padding.
        second_bias: ``(C_out,)``.
        groups: Of both convolutions and of the result.

    Returns:
        Weight ``(C_out, C_in / groups, kH, kW)`` and bias ``(C_out,)``, or
        None if neither has one.

    Raises:
        ValueError: If the shapes are not those above.
    """
    _check_chain(first, second, groups)
    rows = first.reshape(groups, len(first) // groups, -1)
    mix = second.reshape(groups, len(second) // groups, -1)
    weight = (mix @ rows).reshape(len(second), *first.shape[1:])
    if first_bias is None:
        return weight, second_bias
    bias = (mix @ first_bias.reshape(groups, -1, 1)).reshape(-1)
    return weight, bias if second_bias is None else bias + second_bias


def add_parallel(
    weight: Tensor,
    bias: Tensor | None,
    branch: Tensor,
    branch_bias: Tensor | None = None,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
) -> tuple[Tensor, Tensor | None]:
    """Merge two convolutions of the same input whose outputs are added.

    Both have the same stride, dilation, groups and padding mode. A 1 x 1
    branch, itself without padding, is padded to the kernel of the other.

    Args:
        weight: ``(C_out, C_in / groups, kH, kW)``.
        bias: ``(C_out,)``.
        branch: Of the same shape, or ``(C_out, C_in / groups, 1, 1)``.
        branch_bias: ``(C_out,)``.
        padding: Of the convolution of ``weight``; read for a 1 x 1 branch
            only, likewise ``dilation``.

    Returns:
        Weight of the shape of ``weight``, and bias ``(C_out,)``, or None if
        neither has one.

    Raises:
        ValueError: If the shapes are not those above, or the kernel is not
            centred on what the 1 x 1 branch sees.
    """
    kernel = tuple(weight.shape[2:])
    if branch.shape[2:] == (1, 1) and kernel != (1, 1):
        if branch.shape[:2] == weight.shape[:2]:
            check_centred(kernel, padding, dilation)
        row, column = kernel[0] // 2, kernel[1] // 2
        branch = torch.nn.functional.pad(branch, (column, column, row, row))
    if branch.shape != weight.shape:
        raise ValueError(
            f'cannot add a convolution of shape {tuple(branch.shape)} to one '
            f'of shape {tuple(weight.shape)}.'
        )
    biases = [item for item in (bias, branch_bias) if item is not None]
    total = torch.stack(biases).sum(0) if biases else None
    return weight + branch, total


def check_centred(
    kernel_size: Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
) -> None:
    """Raise unless a kernel's centre is where a 1 x 1 convolution looks.

    Raises:
        ValueError: If in any direction the kernel is even, or twice the
            padding is not ``dilation * (kernel - 1)``.
    """
    count = len(kernel_size)
    spread = [dilation] * count if isinstance(dilation, int) else dilation
    if isinstance(padding, str):
        sides = [
            d * (k - 1) // 2 if padding == 'same' else 0
            for k, d in zip(kernel_size, spread)
        ]
    else:
        sides = [padding] * count if isinstance(padding, int) else [*padding]
    if not all(
        k % 2 and 2 * p == d * (k - 1)
        for k, p, d in zip(kernel_size, sides, spread)
    ):
        raise ValueError(
            'a 1 x 1 convolution merges only with a centred kernel: odd, '
            'and padded by dilation * (kernel - 1) / 2. Got '
            f'kernel_size={tuple(kernel_size)}, padding={padding!r}, '
            f'dilation={dilation}.'
        )


def _check_chain(first: Tensor, second: Tensor, groups: int) -> None:
    if tuple(second.shape[2:]) != (1, 1):
        raise ValueError(
            'the second convolution must be 1 x 1, got a weight of shape '
            f'{tuple(second.shape)}.'
        )
    uneven = len(first) % groups or len(second) % groups
    if uneven or second.shape[1] * groups != len(first):
        raise ValueError(
            f'a convolution of shape {tuple(second.shape)} cannot follow one '
            f'of shape {tuple(first.shape)} with groups={groups} in both.'
        )
