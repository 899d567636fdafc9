# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The activation that a gate turns into the identity."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from reducenet_mm.registry import LAYERS

from .host import Gated


@LAYERS.register_module()
class LambdaReLU(Gated, nn.Module):
    """``scaler * relu(x) + (1 - scaler) * x``: ReLU at 1, identity at 0.

    Two convolutions with it between them are one linear map at 0, so they
    merge exactly. At 0 nothing is computed.

    Source: the deep training strategy of VanillaNet (Chen et al. 2023). We
    deviate in that the gate is a plain float that a view sets.

    Args:
        inplace: Overwrite the input.
    """

    gate = 'lambda_relu'

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.scaler = 1.0
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation to ``x`` of any shape."""
        if self.scaler == 0:
            return x
        if self.scaler == 1:
            return F.relu(x, inplace=self.inplace)
        # Negative values keep the share 1 - scaler, positive ones all.
        return F.leaky_relu(x, 1 - self.scaler, inplace=self.inplace)

    def extra_repr(self) -> str:
        """Show the gate's value."""
        return f'scaler={self.scaler}'
