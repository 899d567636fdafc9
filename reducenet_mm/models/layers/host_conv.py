# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A convolution that hosts a branch: its gate, and what guards its weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .host import Gated, Host


class HostConv2d(Gated, Host, nn.Conv2d):
    """``nn.Conv2d`` whose ``weight`` and ``bias`` are the student's own.

    Takes the arguments of ``torch.nn.Conv2d``.
    """

    gate = 'expand'
    scaler: float = 1.0
    refitted: bool = False
    _loading: bool = False

    def register_parameter(
        self, name: str, param: nn.Parameter | None
    ) -> None:
        """Refuse to replace the main weights while a branch is active.

        Folding a norm into this layer (``mmcv.cnn.fuse_conv_bn``,
        ``torch.nn.utils.fusion``) assigns ``weight`` and ``bias`` and would
        leave the branch outside the norm: a silently wrong network. With the
        branches off it is right for the student, and ends the teacher.

        Raises:
            RuntimeError: If a branch is active.
        """
        main = not self._loading and name in ('weight', 'bias')
        if main and 'expand' in self._modules:
            lora = self._modules.get('lora')
            lora_on = isinstance(lora, Gated) and lora.scaler != 0
            if self.scaler != 0 or lora_on:
                raise RuntimeError(
                    f'cannot replace `{name}` of a {type(self).__name__} '
                    f'whose branch is active (scaler={self.scaler}, lora '
                    f'{"on" if lora_on else "off"}): folding a norm into it '
                    'would ignore the branch. Call '
                    'reducenet_mm.set_scaler(model, 0.0) or, which merges a '
                    'lora too, reducenet_mm.ungraft(model) first to keep '
                    'the student.'
                )
            self.refitted = True
        super().register_parameter(name, param)

    def _load_from_state_dict(self, *args: Any) -> None:
        # With assign=True the parameters are replaced, all of the views.
        self._loading = True
        try:
            super()._load_from_state_dict(*args)
        finally:
            self._loading = False

    def keep_only(self, conv: nn.Conv2d) -> None:
        """Take over the parameters of ``conv`` and drop the branches."""
        # Not setattr: replacing the main conv's weight is guarded.
        self._parameters.update(conv._parameters)
        self.expand = nn.Identity()
        self.deploy = self.refitted = True

    def extra_repr(self) -> str:
        """Add the gate's value to the convolution's own description."""
        return f'{super().extra_repr()}, scaler={self.scaler}'


def plain_conv(
    arguments: Mapping[str, Any],
    weight: Tensor,
    bias: Tensor | None,
    like: Tensor,
) -> nn.Conv2d:
    """Build the plain convolution of a host.

    Args:
        arguments: Those of ``torch.nn.Conv2d``; ``bias`` is ignored.
        weight: A parameter, which is then shared, or the values of a new
            one.
        bias: Likewise, or None for none.
        like: New parameters have its dtype, and train if it does.
    """
    settings = {**arguments, 'bias': bias is not None}
    conv = nn.Conv2d(**settings, device='meta')
    conv.weight = _as_parameter(weight, like)
    if bias is not None:
        conv.bias = _as_parameter(bias, like)
    return conv


def _as_parameter(value: Tensor, like: Tensor) -> nn.Parameter:
    if isinstance(value, nn.Parameter):
        return value
    return nn.Parameter(value.to(like.dtype), like.requires_grad)
