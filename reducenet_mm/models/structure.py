# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Names of modules, and which parts of a network they are.

What roles, grafting, merging and counting take for granted, in one place.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

SHORTCUTS = frozenset({'downsample', 'shortcut'})
"""What toolboxes call the module beside a residual branch."""


def prefix_of(name: str) -> str:
    """Return what the names inside a module start with; '' is the whole."""
    return f'{name}.' if name else ''


def is_inside(name: str, parents: Iterable[str]) -> bool:
    """Whether ``name`` is one of ``parents`` or inside one; '' is all."""
    return any(f'{name}.'.startswith(prefix_of(one)) for one in parents)


def in_shortcut(name: str) -> bool:
    """Whether a module is a shortcut or inside one."""
    return not SHORTCUTS.isdisjoint(name.split('.'))


def trunk_of(model: nn.Module) -> str:
    """Return the name of the backbone; '' if ``model`` itself is one."""
    return 'backbone' if 'backbone' in dict(model.named_children()) else ''


def first_stage(backbone: nn.Module) -> str | None:
    """Return the name of the first child that is a stage, if any is."""
    for name, child in backbone.named_children():
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            if name != 'stem':
                return name
    return None
