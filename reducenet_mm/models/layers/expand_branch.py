# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The wide nonlinear branch that makes a teacher out of a student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmcv.cnn import build_activation_layer, build_norm_layer
from torch import Tensor, nn

from reducenet_mm.registry import LAYERS


@LAYERS.register_module()
class ExpandBranch(nn.Module):
    """Nonlinear bottleneck beside a host convolution.

    ``conv k x k (C_in -> e * C_out) -> norm -> act -> conv 1 x 1
    (e * C_out -> C_out) -> norm [-> act]``. The first convolution has the
    host's kernel, stride, padding, dilation, groups and padding mode, so
    that the branch's output has the shape of the host's; the second one is
    dense.

    Source: ``branch1`` of ``ohmydroid/reducenet``.

    Args:
        host: The convolution beside which the branch stands. Only its
            geometry is read; it is not kept.
        expansion: Width of the branch in multiples of the host's output
            channels; an integer >= 1.
        norm_cfg: Config of the two norm layers.
        act_cfg: Config of the activation between the two convolutions.
        zero_init: Start with the last norm's scale at zero, so that adding
            the branch leaves the host's output as it is, bit for bit.
        out_act: Whether an activation follows the last norm.

    Raises:
        ValueError: If ``expansion`` is not an integer >= 1, the norms have
            no scale, or ``zero_init`` meets ``out_act``.
    """

    def __init__(
        self,
        host: nn.Conv2d,
        expansion: int,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = None,
        zero_init: bool = True,
        out_act: bool = False,
    ) -> None:
        super().__init__()
        check_expansion(expansion)
        if zero_init and out_act:
            raise ValueError(
                'a branch that ends in an activation cannot start at zero: '
                'a ReLU there would get no gradient and never leave it. Set '
                'zero_init_expand=False.'
            )
        norm_cfg = dict(norm_cfg or dict(type='BN'))
        act_cfg = dict(act_cfg or dict(type='ReLU', inplace=True))
        width = expansion * host.out_channels
        self.expansion = expansion
        self.zero_init = zero_init
        geometry = conv_arguments(host)
        geometry.update(out_channels=width, bias=False)
        self.conv1 = nn.Conv2d(**geometry)
        self.norm1 = build_norm_layer(norm_cfg, width)[1]
        self.act = build_activation_layer(act_cfg)
        self.conv2 = nn.Conv2d(width, host.out_channels, 1, bias=False)
        self.norm2 = build_norm_layer(norm_cfg, host.out_channels)[1]
        if getattr(self.norm2, 'weight', None) is None:
            raise ValueError(
                f'norm_cfg={norm_cfg} builds norms without a scale, which '
                'the branch needs to start from zero. Set affine=True in '
                '`norm_cfg`.'
            )
        self.out_act = (
            build_activation_layer(act_cfg) if out_act else nn.Identity()
        )
        self.reset_output_scale()

    def reset_output_scale(self) -> None:
        """Set the last norm's scale to its start: 0 (``zero_init``) or 1."""
        nn.init.constant_(self.norm2.weight, 0.0 if self.zero_init else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the branch.

        Args:
            x: The host's input, ``(N, C_in, H, W)``.

        Returns:
            A tensor of the host's output shape ``(N, C_out, H', W')``.
        """
        x = self.act(self.norm1(self.conv1(x)))
        return self.out_act(self.norm2(self.conv2(x)))


def check_expansion(expansion: int) -> None:
    """Raise ``ValueError`` unless ``expansion`` is an integer >= 1."""
    valid = isinstance(expansion, int) and not isinstance(expansion, bool)
    if not valid or expansion < 1:
        raise ValueError(
            f'expansion must be an integer >= 1, got {expansion!r}. Set '
            "`expansion` in the backbone's config; it is the branch's width "
            "in multiples of the host convolution's output channels."
        )


def conv_arguments(conv: nn.Conv2d) -> dict[str, Any]:
    """Return the constructor arguments that give ``conv``'s geometry."""
    return dict(
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        kernel_size=conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    )
