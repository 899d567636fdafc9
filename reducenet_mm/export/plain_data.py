# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The evaluation part of a plain config: of stock parts wherever possible."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    EVALUATOR,
    FUNCTIONS,
    LOOPS,
    METRICS,
    MODELS,
    TASK_UTILS,
    TRANSFORMS,
    WEIGHT_INITIALIZERS,
)

from reducenet_mm.engine.preflight.model_keys import registered_name, resolve
from reducenet_mm.engine.toolbox import TOOLBOXES, scope_of

OWN_PACKAGE = 'reducenet_mm'

_REGISTRIES = (
    DATASETS,
    TRANSFORMS,
    DATA_SAMPLERS,
    METRICS,
    EVALUATOR,
    LOOPS,
    MODELS,
    FUNCTIONS,
    TASK_UTILS,
    WEIGHT_INITIALIZERS,
)

_FIELDS = ('dataloader', 'cfg', 'evaluator')

_STOCK_PARTS = {
    'LoadReadableImage': ('LoadImageFromFile', ('max_unreadable',)),
    'SeededSampler': ('DefaultSampler', ()),
}
"""Ours -> what evaluates alike, and the settings that it does not have."""


def evaluation_part(cfg: Config) -> dict[str, Any]:
    """Return the validation and test settings that go with the student.

    Parts of this package become stock ones where those do the same. What
    is left of ours in the validation settings (the split of a training set)
    leaves them out, unless the test settings have something of ours too.

    Args:
        cfg: The config with which the checkpoint was trained.

    Returns:
        A copy of the top-level keys of ``cfg`` that are kept.
    """
    scope = scope_of(cfg)
    val, test = (
        {
            key: _with_stock_parts(plain(cfg[key], scope))
            for key in (f'{part}_{field}' for field in _FIELDS)
            if cfg.get(key) is not None
        }
        for part in ('val', 'test')
    )
    stock_test = bool(test) and OWN_PACKAGE not in packages(test, scope)
    if stock_test and OWN_PACKAGE in packages(val, scope):
        val = {}
    return {**val, **test}


def left_out(cfg: Config, kept: Mapping[str, Any]) -> list[str]:
    """Return the validation keys of ``cfg`` that are not in ``kept``."""
    keys = [f'val_{field}' for field in _FIELDS]
    return [key for key in keys if cfg.get(key) is not None if key not in kept]


def packages(value: Any, scope: str) -> set[str]:
    """Return the packages that define the types named in a config's part."""
    found = set()
    for name in _types(value):
        for registry in _REGISTRIES:
            target = resolve(name, scope, (registry,))
            module = getattr(target, '__module__', None)
            if module is not None:
                found.add(module.partition('.')[0])
    return found


def plain(value: Any, scope: str) -> Any:
    """Return a deep copy of plain dicts, lists and tuples.

    Args:
        value: A config's part.
        scope: The scope in force there. Types given as classes become the
            names that they have in it, as in any config that is text.
    """
    if isinstance(value, Mapping):
        scope = value.get('_scope_') or scope
        copied = {key: plain(item, scope) for key, item in value.items()}
        if 'type' in copied:
            copied['type'] = _type_name(copied['type'], scope)
        return copied
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item, scope) for item in value)
    return copy.deepcopy(value)


def _type_name(kind: Any, scope: str) -> Any:
    """Return a class or function as text; what is none as it is.

    That is the name under which it is registered, or its address, which
    MMEngine imports by itself: that of a user's own class is known nowhere
    else until its module has been imported.
    """
    if not (inspect.isclass(kind) or inspect.isfunction(kind)):
        return kind
    name = None
    if kind.__module__.partition('.')[0] in (*TOOLBOXES, OWN_PACKAGE):
        name = registered_name(kind, scope, _REGISTRIES)
    return name or f'{kind.__module__}.{kind.__qualname__}'


def unscoped(name: str | None) -> str:
    """Return a type's name without the scope or the module before it."""
    return (name or '').rpartition('.')[2]


def _with_stock_parts(value: Any) -> Any:
    """Return a copy in which ``_STOCK_PARTS`` are replaced.

    Args:
        value: A part which has been through :func:`plain`.
    """
    if isinstance(value, Mapping):
        copied = {key: _with_stock_parts(val) for key, val in value.items()}
        name = copied.get('type')
        if isinstance(name, str) and unscoped(name) in _STOCK_PARTS:
            copied['type'], unknown = _STOCK_PARTS[unscoped(name)]
            return {k: val for k, val in copied.items() if k not in unknown}
        return copied
    if isinstance(value, (list, tuple)):
        return type(value)(_with_stock_parts(item) for item in value)
    return value


def _types(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get('type'), str):
            yield value['type']
        for item in value.values():
            yield from _types(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _types(item)
