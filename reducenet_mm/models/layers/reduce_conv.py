# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Convolutions with an ``expand`` branch beside them and maybe a ``lora``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.common_types import _size_2_t
from typing_extensions import Self

from reducenet_mm.registry import LAYERS

from .expand_branch import ExpandBranch, Kernel, conv_arguments
from .host_conv import HostConv2d, plain_conv
from .linear_pair import folded
from .lora import LoraBranch, WeightLora, build_lora
from .merge import add_parallel

PaddingMode = Literal['zeros', 'reflect', 'replicate', 'circular']


@LAYERS.register_module()
class ReduceConv2d(HostConv2d, nn.Conv2d):
    """``conv(x) + scaler * expand(x) [+ lora(x)]``, with a plain conv's keys.

    ``weight`` and ``bias`` are the main convolution's own, the branches are
    the children ``expand`` and ``lora``. So a stock checkpoint of the host
    network loads, and the student's checkpoint is the host's once the keys
    ``*.expand.*`` are dropped and ``*.lora.*`` merged. At ``scaler = 0``
    ``expand`` is not computed at all, nor is ``lora`` while it is off.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: As in ``torch.nn.Conv2d``; likewise ``stride``,
            ``padding``, ``dilation``, ``groups``, ``bias``,
            ``padding_mode``.
        expansion: Width of the branch, see :class:`ExpandBranch`; likewise
            ``norm_cfg``, ``act_cfg``, ``zero_init`` and ``kernel``.
        lora: ``dict(kind=..., ...)``, see ``lora.build_lora``; None for no
            such branch.
        deploy: Build what :meth:`switch_to_deploy` leaves, without any
            branch.

    Raises:
        ValueError: If ``expansion`` is not an integer >= 1, or ``lora`` has
            an unknown setting.
    """

    # nn.Conv2d is among the direct bases, as there MMEngine's initialisers
    # look for the `layer` of a host's init_cfg.

    expand: ExpandBranch  # nn.Identity once switched to deploy
    lora: LoraBranch | None
    branch_out_act: ClassVar[bool] = False

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
        lora: Mapping[str, Any] | None = None,
        kernel: Kernel | None = None,
        deploy: bool = False,
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
        if deploy:
            if _merges_to_bias(self, lora, norm_cfg) and not bias:
                self.bias = nn.Parameter(torch.zeros(out_channels))
            self.scaler = 0.0
            self.keep_only(self)
            return
        self.expand = ExpandBranch(
            self,
            expansion,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            zero_init=zero_init,
            out_act=self.branch_out_act,
            kernel=kernel,
        )
        self.lora = None if lora is None else build_lora(self, lora, norm_cfg)

    @classmethod
    def from_conv(
        cls,
        conv: nn.Conv2d,
        expansion: int,
        *,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = None,
        zero_init: bool = True,
        lora: Mapping[str, Any] | None = None,
        kernel: Kernel | None = None,
    ) -> Self:
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
            lora=lora,
            kernel=kernel,
        ).to(conv.weight)
        # Not setattr: replacing the main conv's weight is guarded.
        graft._parameters.update(conv._parameters)
        return graft.train(conv.training)

    @torch.no_grad()
    def student_conv(self) -> nn.Conv2d:
        """Return the plain convolution that the student consists of.

        Returns:
            A new ``nn.Conv2d``. It shares this layer's parameters; with a
            ``lora`` it has parameters of its own, and maybe a bias where
            this layer has none.
        """
        weight, bias = self.weight, self.bias
        if self.lora is not None:
            weight, bias = add_parallel(
                *folded(weight, bias),
                *self.lora.merged(),
                padding=self.padding,
                dilation=self.dilation,
            )
        conv = plain_conv(conv_arguments(self), weight, bias, self.weight)
        return conv.train(self.training)

    def keep_only(self, conv: nn.Conv2d) -> None:
        """Take over the parameters of ``conv`` and drop the branches."""
        super().keep_only(conv)
        self._modules.pop('lora', None)  # as where there never was one
        self.lora = None

    def reset_branches(self) -> None:
        """Restore the start of the branches' output scales."""
        if self.deploy:
            return
        self.expand.reset_output_scale()
        if self.lora is not None:
            self.lora.reset_output()

    def adapt_state(self, state: dict[str, Tensor], prefix: str) -> None:
        """Give ``lora`` its present values where a state dict has none."""
        own = f'{prefix}lora.'
        if self.lora is None or any(key.startswith(own) for key in state):
            return
        for name, value in self.lora.state_dict().items():
            state[own + name] = value.detach().clone()

    def main(self, x: Tensor) -> Tensor:
        """Compute the student's part: the convolution and ``lora``.

        Args:
            x: Input, ``(N, C_in, H, W)``.

        Returns:
            Output, ``(N, C_out, H', W')``.
        """
        lora = self.lora
        if lora is None or lora.scaler == 0:
            return super().forward(x)
        if isinstance(lora, WeightLora):
            weight = self.weight + lora.update()
            return self._conv_forward(x, weight, self.bias)
        return super().forward(x) + lora(x)

    def add_branch(self, out: Tensor, x: Tensor) -> Tensor:
        """Return ``out + scaler * expand(x)``; ``out`` itself at scaler 0.

        Args:
            out: What the branch is added to, ``(N, C_out, H', W')``.
            x: This layer's input, ``(N, C_in, H, W)``.
        """
        if self.scaler == 0:
            return out
        branch = self.expand(x)
        return out + (branch if self.scaler == 1 else self.scaler * branch)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution and the branches that are on.

        Args:
            x: Input, ``(N, C_in, H, W)``.

        Returns:
            Output, ``(N, C_out, H', W')``.
        """
        return self.add_branch(self.main(x), x)


class ParallelConv2d(ReduceConv2d, nn.Conv2d):
    """A ``ReduceConv2d`` whose branch is added later, by the block.

    The branch ends in an activation. ``forward`` is the student's part
    alone; the block calls :meth:`add_branch` behind norm and activation.
    """

    branch_out_act = True

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution and ``lora``, without ``expand``."""
        return self.main(x)


def _merges_to_bias(
    host: nn.Conv2d,
    lora: Mapping[str, Any] | None,
    norm_cfg: Mapping[str, Any] | None,
) -> bool:
    """Whether merging such a branch gives a convolution a bias."""
    if lora is None:
        return False
    with torch.device('meta'):  # nothing is allocated or drawn
        return build_lora(host, lora, norm_cfg).merged()[1] is not None
