# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Put other modules in the places of chosen convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import nn

from .graft_targets import TARGET_ROLES, Targets, all_convs, match_names
from .graftable import check_graftable, is_other_conv
from .layers.host import EXPAND, LORA, hosts
from .structure import prefix_of

ModuleT = TypeVar('ModuleT', bound=nn.Module)


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
    built = {}
    for name, conv in chosen.items():
        try:
            built[name] = build(conv)
        except ValueError as error:
            raise ValueError(f'cannot graft `{name}`: {error}') from error
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
    """Return by name what ``targets`` means, all of it fit to be grafted."""
    check_names_are_free(model)
    if not callable(targets) and (
        not targets or not isinstance(targets, (str, Sequence))
    ):
        raise ValueError(
            'targets must be one or more regular expressions or roles '
            f'{sorted(TARGET_ROLES)}, or a predicate, got {targets!r}.'
        )
    convs = all_convs(model)
    if callable(targets):
        chosen = [name for name, conv in convs.items() if targets(name, conv)]
        unmatched = [] if chosen else [repr(targets)]
    else:
        others = [n for n, m in model.named_modules() if is_other_conv(m)]
        matched = match_names(model, targets, [*convs, *others])
        wanted = {name for names in matched.values() for name in names}
        chosen = [n for n, _ in model.named_modules() if n in wanted]
        unmatched = [repr(p) for p, names in matched.items() if not names]
    if unmatched:
        raise ValueError(
            f'targets [{", ".join(unmatched)}] match no convolution of '
            f'{type(model).__name__}; its convolutions are named like '
            f'{list(convs)[:5]}. Give regular expressions on their full '
            f'names, or roles: {sorted(TARGET_ROLES)}.'
        )
    check_graftable(model, chosen)
    return {name: convs[name] for name in chosen}


def check_names_are_free(model: nn.Module) -> None:
    """Raise ``ValueError`` if anything that is no branch is named like one."""
    inside = tuple(prefix_of(name) for name, _ in hosts(model))
    own = (
        *model.named_modules(),
        *model.named_parameters(),
        *model.named_buffers(),
    )
    for name, _ in own:
        reserved = name.rpartition('.')[2] in (EXPAND, LORA)
        if reserved and not name.startswith(inside):
            raise ValueError(
                f'{type(model).__name__} cannot have branches: its own '
                f'`{name}` has the name of one. Rename it there.'
            )
