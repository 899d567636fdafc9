# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What the config of an algorithm's network lacks before it is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn


def add_scope(
    architecture: Mapping[str, Any], scope: str | None = None
) -> dict[str, Any]:
    """Give an architecture the scope of the toolbox that has its type.

    An algorithm's own scope is MMRazor's. A model out of a file in another
    package brings its scope along, one out of a user's own file does not.
    Nor does MMEngine switch to it for a class or a name with a prefix, so
    that what the network fills in itself would be looked up elsewhere.

    Args:
        architecture: Config of a network; not changed.
        scope: Where its type is looked for first; None for the current one.

    Returns:
        The config, with ``_scope_`` if its type is, or is derived from, a
        toolbox's class, has its prefix, or is a name that it alone knows.
    """
    kind = architecture.get('type')
    if '_scope_' in architecture:
        return dict(architecture)
    if not isinstance(kind, str):
        return _add_owner(architecture, _toolboxes_of(kind))
    with MODELS.switch_scope_and_registry(scope) as registry:
        found = registry.get(kind)  # imports a prefix's toolbox
    prefix, dot, _ = kind.partition('.')
    if dot:  # a class too, once its config has been written to a file
        return _add_owner(architecture, [prefix, *_toolboxes_of(found)])
    if found is not None:
        return dict(architecture)
    owners = [
        toolbox
        for toolbox, registry in MODELS.children.items()
        if kind in registry.module_dict
    ]
    return _add_owner(architecture, owners if len(owners) == 1 else [])


def _toolboxes_of(kind: Any) -> list[str]:
    """Return the packages of a class and its bases, most derived first."""
    return [
        base.__module__.partition('.')[0]
        for base in getattr(kind, '__mro__', ())
    ]


def _add_owner(
    architecture: Mapping[str, Any], owners: Sequence[str]
) -> dict[str, Any]:
    """Add the first of ``owners`` that is a toolbox, if any, as scope."""
    toolboxes = [owner for owner in owners if owner in MODELS.children]
    if not toolboxes:
        return dict(architecture)
    return dict(architecture, _scope_=toolboxes[0])


def hand_over_preprocessor(
    architecture: BaseModel | dict, data_preprocessor: dict | nn.Module | None
) -> tuple[BaseModel | dict, dict | nn.Module | None]:
    """Give the algorithm's preprocessor settings to the architecture.

    The Runner hands over the config's top-level settings, which have no
    ``type``: the architecture knows which one it wants.

    Args:
        architecture: If a config, its own settings take precedence.
        data_preprocessor: Only a config is handed over.

    Returns:
        The two as they are to be used; no argument is changed.
    """
    if isinstance(architecture, dict) and isinstance(data_preprocessor, dict):
        given = dict(data_preprocessor=dict(data_preprocessor))
        return {**given, **architecture}, None
    return architecture, data_preprocessor
