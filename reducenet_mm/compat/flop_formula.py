# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What the backward pass of a convolution with groups costs.

Reason: torch's formula for the weight's gradient leaves the groups out, so
that a depthwise convolution counts as many times too much as it has channels.
Versions: torch up to 2.14.
Source: ``torch/utils/flop_counter.py``, ``conv_backward_flop``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

Shape = Sequence[int]


def conv_backward_flops(
    grad_out: Shape,
    inputs: Shape,
    weight: Shape,
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    output_mask: Sequence[bool],
    **_: Any,
) -> int:
    """Count the gradients by input and weight, each like the forward pass.

    Args:
        grad_out: Shape (N, C_out, H', W') of the output's gradient.
        inputs: (N, C_in, H, W).
        weight: (C_out, C_in / groups, k, k), or, transposed,
            (C_in, C_out / groups, k, k).
        transposed: Whether the convolution is transposed.
        output_mask: Whether input, weight and bias want a gradient.

    Returns:
        Two for each multiply-add.
    """
    places = inputs if transposed else grad_out
    once = 2 * places[0] * prod(places[2:]) * prod(weight)
    return once * sum(map(bool, output_mask[:2]))


FLOP_FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.aten.convolution_backward: conv_backward_flops
}
"""For ``FlopCounterMode(custom_mapping=...)``."""
