# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A convolution with an ``expand`` branch: the one host of the branch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.common_types import _size_2_t

from reducenet_mm.registry import LAYERS

from .expand_branch import ExpandBranch, conv_arguments

PaddingMode = Literal['zeros', 'reflect', 'replicate', 'circular']


@LAYERS.register_module()
class ReduceConv2d(nn.Conv2d):
    """``conv(x) + scaler * expand(x)``, with the keys of a plain convolution.

    ``weight`` and ``bias`` are the main convolution's own, the branch is the
    child ``expand``. So a stock checkpoint of the host network loads, and the
    student's checkpoint is the host's once the keys ``*.expand.*`` are
    dropped. At ``scaler = 0`` the branch is not computed at all.

    ``scaler`` is a plain float in [0, 1], neither parameter nor buffer.
    Read it freely; only :mod:`reducenet_mm.models.supernet` writes it.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: As in ``torch.nn.Conv2d``; likewise ``stride``,
            ``padding``, ``dilation``, ``groups``, ``bias``,
            ``padding_mode``.
        expansion: Width of the branch, see :class:`ExpandBranch`; likewise
            ``norm_cfg``, ``act_cfg`` and ``zero_init``.

    Raises:
        ValueError: If ``expansion`` is not an integer >= 1.
    """

    expand: ExpandBranch

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _size_2_t,
        stride: _size_2_t = 1,
        padding: str | _size_2_t = 0,
        dilation: _size_2_t = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = 'zeros',
        *,
        expansion: int = 1,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = None,
        zero_init: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
        )
        self.scaler = 1.0
        self.refitted = False
        self.expand = ExpandBranch(
            self, expansion, norm_cfg, act_cfg, zero_init
        )

    @classmethod
    def from_conv(
        cls,
        conv: nn.Conv2d,
        expansion: int,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = None,
        zero_init: bool = True,
    ) -> ReduceConv2d:
        """Build the graft of ``conv``; it takes over conv's own parameters.

        Args:
            conv: A plain convolution, left unchanged.
            expansion: See the class; likewise the others.

        Returns:
            A layer with the device, dtype and training mode of ``conv``.
        """
        graft = cls(
            **conv_arguments(conv),
            expansion=expansion,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            zero_init=zero_init,
        ).to(conv.weight)
        # Not setattr: replacing the main conv's weight is guarded below.
        graft._parameters.update(conv._parameters)
        return graft.train(conv.training)

    def student_conv(self) -> nn.Conv2d:
        """Return the plain convolution that the student consists of.

        Returns:
            A new ``nn.Conv2d`` which shares this layer's parameters.
        """
        conv = nn.Conv2d(**conv_arguments(self), device='meta')
        conv.weight = self.weight
        conv.bias = self.bias
        return conv.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution and, unless ``scaler`` is 0, the branch.

        Args:
            x: Input, ``(N, C_in, H, W)``.

        Returns:
            Output, ``(N, C_out, H', W')``.
        """
        out = super().forward(x)
        if self.scaler == 0:
            return out
        branch = self.expand(x)
        return out + (branch if self.scaler == 1 else self.scaler * branch)

    def register_parameter(
        self, name: str, param: nn.Parameter | None
    ) -> None:
        """Refuse to replace the main weights while the branch is active.

        Folding a norm into this layer (``mmcv.cnn.fuse_conv_bn``,
        ``torch.nn.utils.fusion``) assigns ``weight`` and ``bias`` and would
        leave the branch outside the norm: a silently wrong network. With the
        branch off it is right for the student, and ends the teacher.

        Raises:
            RuntimeError: If the branch is active.
        """
        if 'expand' in self._modules and name in ('weight', 'bias'):
            if self.scaler != 0:
                raise RuntimeError(
                    f'cannot replace `{name}` of a ReduceConv2d whose branch '
                    f'is active (scaler={self.scaler}): folding a norm into '
                    'it would ignore the branch. Call '
                    'reducenet_mm.set_scaler(model, 0.0) or '
                    'reducenet_mm.ungraft(model) first to keep the student.'
                )
            self.refitted = True
        super().register_parameter(name, param)

    def extra_repr(self) -> str:
        """Add the gate's value to the convolution's own description."""
        return f'{super().extra_repr()}, scaler={self.scaler}'
