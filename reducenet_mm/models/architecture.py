# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What the config of an algorithm's network lacks before it is built."""

from __future__ import annotations

from collections.abc import Mapping
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

    Args:
        architecture: Config of a network; not changed.
        scope: Where its type is looked for first; None for the current one.

    Returns:
        The config, with ``_scope_`` if only one toolbox knows its type.
    """
    kind = architecture.get('type')
    if '_scope_' in architecture or not isinstance(kind, str):
        return dict(architecture)
    with MODELS.switch_scope_and_registry(scope) as registry:
        if registry.get(kind) is not None:
            return dict(architecture)
    owners = [
        toolbox
        for toolbox, registry in MODELS.children.items()
        if kind in registry.module_dict
    ]
    if len(owners) != 1:
        return dict(architecture)
    return dict(architecture, _scope_=owners[0])


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
