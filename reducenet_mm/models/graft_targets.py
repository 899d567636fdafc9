# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which convolutions of a network are meant, by name or by what they do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import nn

from .layers.host import hosts
from .structure import in_shortcut, is_inside, prefix_of, trunk_of

Targets = str | Sequence[str] | Callable[[str, nn.Conv2d], bool]

TARGET_ROLES = {
    'block_first_conv': 'the first convolution of each block',
    'depthwise': 'one filter or more for each channel alone',
    'pointwise': '1 x 1 and dense, but in no shortcut',
}
"""Role -> which convolutions play it; none inside squeeze-and-excitation.

A block has two layers with weights or more (so a ``ConvModule`` is none) and
is an element of a stage (``nn.Sequential``, ``nn.ModuleList``) or a direct
child of the backbone. Of blocks inside blocks only the inner ones count. Its
first convolution is the one defined first, shortcuts left out.
"""

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def all_convs(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Return every ``nn.Conv2d`` by name, those of branches left out."""
    inside = [name for name, _ in hosts(model)]
    return {
        name: module
        for name, module in model.named_modules()
        if name
        and isinstance(module, nn.Conv2d)
        and (name in inside or not is_inside(name, inside))
    }


def match_names(
    model: nn.Module, targets: str | Sequence[str], names: Iterable[str]
) -> dict[str, list[str]]:
    """Return which of ``names`` each pattern means.

    Args:
        model: The network.
        targets: One or more of :data:`TARGET_ROLES` or regular expressions,
            each to match a full name.
        names: Of modules of ``model``.

    Raises:
        ValueError: If a pattern is not a regular expression.
    """
    patterns = [targets] if isinstance(targets, str) else list(targets)
    names = list(names)
    roles = convs_by_role(model) if {*patterns} & {*TARGET_ROLES} else {}
    matched = {}
    for pattern in patterns:
        if pattern in TARGET_ROLES:
            matched[pattern] = [n for n in names if n in roles[pattern]]
            continue
        try:
            regex = re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(
                f'targets: {pattern!r} is no regular expression: {error}. '
                f'Roles are {sorted(TARGET_ROLES)}.'
            ) from error
        matched[pattern] = [n for n in names if regex.fullmatch(n)]
    return matched


def convs_by_role(model: nn.Module) -> dict[str, set[str]]:
    """Return role -> names of the convolutions which play it.

    Args:
        model: A backbone, or a network with a child ``backbone``, whose
            other parts then play no role.
    """
    trunk = trunk_of(model)
    gates = [
        name
        for name, module in model.named_modules()
        if name not in ('', trunk) and _pools(module)
    ]
    convs = {
        name: conv
        for name, conv in all_convs(model).items()
        if is_inside(name, [trunk]) and not is_inside(name, gates)
    }
    straight = [name for name in convs if not in_shortcut(name)]
    blocks = list(_blocks(model, trunk))
    firsts = {
        next((n for n in straight if is_inside(n, [block])), '')
        for block in blocks
    }
    return {
        'block_first_conv': firsts - {''},
        'depthwise': {
            n for n, c in convs.items() if c.groups == c.in_channels > 1
        },
        'pointwise': {
            name
            for name in straight
            if convs[name].kernel_size == (1, 1) and convs[name].groups == 1
        },
    }


def _blocks(model: nn.Module, trunk: str) -> Iterator[str]:
    """Yield the names of the innermost blocks, in order of definition."""
    found = []
    for name, module in model.named_modules():
        if not is_inside(name, [trunk]):
            continue
        if name == trunk or isinstance(module, _CONTAINERS):
            found += [
                prefix_of(name) + child
                for child, element in module.named_children()
                if not isinstance(element, _CONTAINERS)
                and _count_weights(element) > 1
            ]
    for name in found:
        others = [other for other in found if other != name]
        if not any(is_inside(other, [name]) for other in others):
            yield name


def _count_weights(module: nn.Module) -> int:
    """Return how many convolutions and linear layers are inside.

    A grafted convolution is one, whatever stands beside it.
    """
    layers = (nn.Conv2d, nn.Linear)
    grafted = {name for name, _ in hosts(module)}
    return sum(
        isinstance(child, layers)
        and (name in grafted or not is_inside(name, grafted))
        for name, child in module.named_modules()
    )


def _pools(module: nn.Module) -> bool:
    """Whether it pools globally and weighs channels by what comes of it."""
    pooling = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
    return any(isinstance(child, pooling) for child in module.children())
