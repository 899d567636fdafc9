# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Put other modules in the places of chosen convolutions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import nn

from .layers.host import EXPAND, LORA, hosts

ModuleT = TypeVar('ModuleT', bound=nn.Module)
Targets = str | Sequence[str] | Callable[[str, nn.Conv2d], bool]


def replace_convs(
    model: ModuleT,
    targets: Targets,
    build: Callable[[nn.Conv2d], nn.Module],
) -> ModuleT:
    """Put what ``build`` makes of convolutions in their places.

    Args:
        model: The host network, changed in place.
        targets: As in ``supernet.graft``.
        build: Takes a plain convolution and leaves it as it is.

    Returns:
        The same ``model``.

    Raises:
        ValueError: As ``supernet.graft``, or as ``build`` does. The model is
            unchanged then.
    """
    chosen = _select_convs(model, targets)
    built = {name: build(conv) for name, conv in chosen.items()}
    for name, layer in built.items():
        replace_module(model, name, layer)
    return model


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` at the place ``name`` of ``model``."""
    parent, _, child = name.rpartition('.')
    setattr(model.get_submodule(parent), child, module)


def _select_convs(
    model: nn.Module,
    targets: Targets,
) -> dict[str, nn.Conv2d]:
    inside = tuple(f'{name}.' if name else '' for name, _ in hosts(model))
    convs = {
        name: module
        for name, module in model.named_modules()
        if name
        and isinstance(module, nn.Conv2d)
        and not name.startswith(inside)
    }
    if callable(targets):
        chosen = {n: c for n, c in convs.items() if targets(n, c)}
        unmatched = [] if chosen else [repr(targets)]
    else:
        patterns = [targets] if isinstance(targets, str) else list(targets)
        chosen = {
            name: conv
            for name, conv in convs.items()
            if any(re.fullmatch(p, name) for p in patterns)
        }
        unmatched = [
            p for p in patterns if not any(re.fullmatch(p, n) for n in chosen)
        ]
    if unmatched:
        raise ValueError(
            f'targets {unmatched} match no convolution of '
            f'{type(model).__name__}; its convolutions are named like '
            f'{list(convs)[:5]}.'
        )
    for name, _ in model.named_modules():
        reserved = name.rpartition('.')[2] in (EXPAND, LORA)
        if reserved and not name.startswith(inside):
            raise ValueError(
                f'cannot graft {type(model).__name__}: its own module '
                f'`{name}` has the name of a branch. Rename it in the host.'
            )
    for name, conv in chosen.items():
        if type(conv) is not nn.Conv2d:
            raise ValueError(
                f'cannot graft `{name}`: a {type(conv).__name__} is not a '
                'plain nn.Conv2d. Leave it out of `targets`.'
            )
    return chosen
