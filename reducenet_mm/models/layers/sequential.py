# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A linear pair instead of a convolution: what hosts it, in both stages."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .expand_branch import check_expansion, conv_arguments
from .host import Host
from .host_conv import HostConv2d, plain_conv
from .linear_pair import LinearPair

STUDENT_CONVS = ('pair', 'merged', 'fresh')
"""What a sequential block's student has: the pair itself or a new conv."""


class SequentialPair(Host):
    """A pair whose own gate makes it the teacher's or the student's.

    ``conv k x k -> [norm] -> LambdaReLU -> conv 1 x 1``. There is no side
    branch: the student trains the same tensors, with the activation linear,
    and ships them merged.

    Args:
        conv: The convolution whose place it takes; only read.
        expansion: Inner width in multiples of the convolution's outputs,
            an integer >= 1.
        norm_cfg: Config of the batch norm inside; None for none.
        deploy: Build what :meth:`switch_to_deploy` leaves, without the pair.

    Raises:
        ValueError: If an argument is not one of those above.
    """

    weight: nn.Parameter  # once switched to deploy, likewise the bias
    bias: nn.Parameter | None

    def __init__(
        self,
        conv: nn.Conv2d,
        expansion: int = 1,
        norm_cfg: Mapping[str, Any] | None = None,
        deploy: bool = False,
    ) -> None:
        super().__init__()
        self.geometry = conv_arguments(conv)
        self.expand = nn.Identity()  # nothing for the student to freeze
        if deploy:
            check_expansion(expansion)
            plain = nn.Conv2d(**_merged_arguments(conv, norm_cfg))
            self.keep_only(_start_as_(plain, conv))
        else:
            self.pair = _build_pair(conv, expansion, norm_cfg)

    @property
    def scaler(self) -> float:  # type: ignore[override]
        """The activation's gate, 1 in the teacher."""
        return 0.0 if self.deploy else self.pair.scaler

    def student_conv(self) -> nn.Conv2d:
        """Return the one convolution that the pair is at gate 0.

        Returns:
            A new ``nn.Conv2d``, with a bias if a norm is inside the pair.
        """
        if self.deploy:
            conv = plain_conv(
                self.geometry, self.weight, self.bias, self.weight
            )
        else:
            like = self.pair.conv1.weight
            conv = plain_conv(self.geometry, *self.pair.merged(), like)
        return conv.train(self.training)

    def keep_only(self, conv: nn.Conv2d) -> None:
        """Take over the parameters of ``conv`` and drop the pair."""
        for name in ('weight', 'bias'):
            self.register_parameter(name, conv._parameters[name])
        # Of a convolution without tensors, and no child: it has no keys.
        self._convolve = nn.Conv2d(
            **self.geometry, device='meta'
        )._conv_forward
        self._modules.pop('pair', None)
        self.deploy = self.refitted = True

    def forward(self, x: Tensor) -> Tensor:
        """Compute the pair: ``(N, C_in, H, W) -> (N, C_out, H', W')``."""
        if self.deploy:
            return self._convolve(x, self.weight, self.bias)
        return self.pair(x)


class SequentialConv2d(HostConv2d, nn.Conv2d):
    """A new convolution for the student beside the teacher's pair.

    ``scaler * pair(x) + (1 - scaler) * conv(x)``, where the pair is the
    branch ``expand``: only one of the two is computed at 0 and at 1. Takes
    up checkpoints of :class:`SequentialPair`. In the teacher ``weight`` has
    no part: it does not train there, and no student starts from it.

    Args:
        conv: The convolution whose place it takes, left unchanged.
        expansion: See :class:`SequentialPair`, likewise ``norm_cfg``.
        merged: Start as the exact merge of a loaded pair rather than with
            the weights of ``conv``.
        deploy: Build what :meth:`switch_to_deploy` leaves, without the pair.

    Raises:
        ValueError: If an argument is not one of those above.
    """

    expand: LinearPair  # nn.Identity once switched to deploy

    def __init__(
        self,
        conv: nn.Conv2d,
        expansion: int = 1,
        norm_cfg: Mapping[str, Any] | None = None,
        merged: bool = True,
        deploy: bool = False,
    ) -> None:
        super().__init__(**_merged_arguments(conv, norm_cfg))
        _start_as_(self, conv)
        self.inherits = merged
        if deploy:
            check_expansion(expansion)
            self.scaler = 0.0
            self.keep_only(self)
        else:
            self.expand = _build_pair(conv, expansion, norm_cfg)

    def student_conv(self) -> nn.Conv2d:
        """Return the plain convolution, with this layer's parameters."""
        conv = plain_conv(
            conv_arguments(self), self.weight, self.bias, self.weight
        )
        return conv.train(self.training)

    def reset_branches(self) -> None:
        """Start the convolution as the merge of the pair, if asked for."""
        if self.inherits and not self.deploy:
            self._take_merge_of(self.expand)

    def adapt_state(self, state: dict[str, Tensor], prefix: str) -> None:
        """Start the new convolution from a teacher's pair.

        It gets the exact merge, or its present values: also where the
        teacher had this layer instead of a ``SequentialPair``, since at
        scaler 1 the convolution has no part and is not trained.
        """
        old, new = f'{prefix}pair.', f'{prefix}expand.'
        for key in [key for key in state if key.startswith(old)]:
            state[new + key[len(old) :]] = state.pop(key)
        values = {
            key[len(new) :]: value
            for key, value in state.items()
            if key.startswith(new)
        }
        if not values or self.deploy:
            return
        start = copy.deepcopy(self)
        own = self.expand.state_dict()
        # A pair of another shape is for the loader to refuse, by name.
        if self.inherits and own.keys() == values.keys():
            if all(values[key].shape == own[key].shape for key in own):
                start.expand.load_state_dict(values)
                start._take_merge_of(start.expand)
        for name, value in start._parameters.items():
            if value is not None:
                state[prefix + name] = value.detach()

    @torch.no_grad()
    def _take_merge_of(self, pair: LinearPair) -> None:
        weight, bias = pair.merged()
        self.weight.copy_(weight)
        if self.bias is not None and bias is not None:
            self.bias.copy_(bias)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any
    ) -> None:
        if any(key.startswith(f'{prefix}pair.') for key in state_dict):
            self.adapt_state(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the pair, the convolution, or their mean.

        Args:
            x: Input, ``(N, C_in, H, W)``.

        Returns:
            Output, ``(N, C_out, H', W')``.
        """
        if self.scaler == 1:
            return self.expand(x)
        out = super().forward(x)
        if self.scaler == 0:
            return out
        return torch.lerp(out, self.expand(x), self.scaler)


def _merged_arguments(
    conv: nn.Conv2d, norm_cfg: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the arguments of the convolution that a pair merges into."""
    arguments = conv_arguments(conv)
    # The norm inside the pair leaves a bias behind.
    arguments['bias'] = arguments['bias'] or norm_cfg is not None
    return arguments


@torch.no_grad()
def _start_as_(merged: nn.Conv2d, conv: nn.Conv2d) -> nn.Conv2d:
    """Give ``merged`` the weights of ``conv``, and no bias at first."""
    merged.weight.copy_(conv.weight)
    if merged.bias is not None:
        nn.init.zeros_(merged.bias)
    return merged


def _build_pair(
    conv: nn.Conv2d, expansion: int, norm_cfg: Mapping[str, Any] | None
) -> LinearPair:
    check_expansion(expansion)
    width = expansion * conv.out_channels
    return LinearPair(conv, width, norm_cfg, bias=conv.bias is not None)
