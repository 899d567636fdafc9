# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The wide nonlinear branch that makes a teacher out of a student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmcv.cnn import build_activation_layer, build_norm_layer
from torch import Tensor, nn

from reducenet_mm.plain_numbers import is_whole
from reducenet_mm.registry import LAYERS

from .zero_start import ZeroStart

Kernel = int | Sequence[int]


@LAYERS.register_module()
class ExpandBranch(ZeroStart):
    """Nonlinear bottleneck beside a host convolution.

    ``conv k x k (C_in -> e * C_out) -> norm -> act -> conv 1 x 1
    (e * C_out -> C_out) -> norm [-> act]``. The first convolution has the
    host's stride, dilation, groups and padding mode, and unless ``kernel``
    says otherwise its kernel and padding, so that the branch's output has
    the shape of the host's.

    The second convolution is dense whatever the host. Beside one with g
    groups the branch is, with W1 of shape ``(e * C_out, C_in / g, k, k)``
    and W2 of shape ``(C_out, e * C_out, 1, 1)``,
    ``norm(W2 * act(norm(W1 *_g x)))``: each group of the input fills
    ``e * C_out / g`` inner channels, which W2 mixes across groups. Beside a
    depthwise host these are ``e * C_out / C_in`` filters of every channel,
    so the teacher sees across channels where the student cannot.

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
        kernel: Kernel size of the first convolution, an odd integer or two
            of them; the padding follows. None for the host's.

    Raises:
        ValueError: If ``expansion`` is not an integer >= 1, the norms have
            no scale, ``zero_init`` meets ``out_act``, or no padding gives
            ``kernel`` the host's output shape.
    """

    def __init__(
        self,
        host: nn.Conv2d,
        expansion: int,
        *,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = None,
        zero_init: bool = True,
        out_act: bool = False,
        kernel: Kernel | None = None,
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
        if kernel is not None:
            geometry.update(_kernel_arguments(host, kernel))
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

    def last_parameters(self) -> tuple[Tensor, ...]:
        """Return scale and shift of the last norm, with ``zero_init``."""
        if not self.zero_init:
            return ()
        parameters = (self.norm2.weight, self.norm2.bias)
        return tuple(one for one in parameters if one is not None)

    def reset_output_scale(self) -> None:
        """Set the last norm's scale to its start: 0 (``zero_init``) or 1."""
        if self.zero_init:
            self.reset_output()
        else:
            nn.init.ones_(self.norm2.weight)

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
    if not is_whole(expansion) or expansion < 1:
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


def _kernel_arguments(host: nn.Conv2d, kernel: Kernel) -> dict[str, Any]:
    """Return kernel size and padding which keep ``host``'s output shape.

    The new kernel is centred on what the host's is centred on.

    Raises:
        ValueError: If ``kernel`` is not odd integers >= 1, or there is no
            such padding.
    """
    size = _kernel_size(kernel)
    spread = [
        dilation * (new - old)
        for dilation, new, old in zip(host.dilation, size, host.kernel_size)
    ]
    here = (
        f'kernel={kernel!r} beside a convolution with kernel_size='
        f'{host.kernel_size}, padding={host.padding!r}, dilation='
        f'{host.dilation}'
    )
    if any(total % 2 for total in spread):
        raise ValueError(
            f'{here}: the branch would see the image shifted by half a '
            'pixel. Beside an even kernel leave `kernel` out.'
        )
    if host.padding == 'same':
        return dict(kernel_size=size, padding='same')
    sides = (0, 0) if isinstance(host.padding, str) else host.padding
    padding = tuple(side + total // 2 for side, total in zip(sides, spread))
    if min(padding) < 0:
        raise ValueError(
            f'{here} would need the padding {padding} for the same output '
            "shape. Leave `kernel` out, or make it no smaller than the host's."
        )
    return dict(kernel_size=size, padding=padding)


def _kernel_size(kernel: Kernel) -> tuple[int, int]:
    pair = isinstance(kernel, Sequence)
    size = tuple(kernel) if pair else (kernel, kernel)  # type: ignore
    if len(size) != 2 or not all(map(_is_odd, size)):
        raise ValueError(
            'kernel must be an odd integer >= 1 or two of them, got '
            f'{kernel!r}. It is the kernel size of the first convolution of '
            "the branch; leave it out for the host's."
        )
    return size  # type: ignore[return-value]


def _is_odd(number: object) -> bool:
    return is_whole(number) and number > 0 and number % 2 == 1
