# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Build the model once, and say which config key is to blame if it fails."""

from __future__ import annotations

import copy
import pickle
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from reducenet_mm.models.roles import REGEX

from .model_keys import Node, unknown_type

CONFIG_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
"""What a wrong config value makes constructors and initialisers raise."""


def build_model(
    cfg: Config, nodes: Sequence[Node], *, init_weights: bool
) -> nn.Module:
    """Build ``cfg.model`` as the Runner would, on the CPU.

    Args:
        cfg: The full config; it is not changed.
        nodes: The nodes of ``cfg.model``, to find the failing one.
        init_weights: Whether to initialise the model too.

    Raises:
        ValueError: If building or initialising fails.
        TypeError: If it fails because of a type.
        FileNotFoundError: If a checkpoint is not there.
    """
    model_cfg = copy.deepcopy(cfg.model)
    preprocessor = copy.deepcopy(cfg.get('data_preprocessor'))
    if preprocessor is not None:
        model_cfg.setdefault('data_preprocessor', preprocessor)
    scope = cfg.get('default_scope', 'mmengine')
    with DefaultScope.overwrite_default_scope(scope):
        try:
            model = MODELS.build(model_cfg)
        except CONFIG_ERRORS as error:
            raise _explain_build(error, nodes, cfg.model) from error
        if init_weights and hasattr(model, 'init_weights'):
            try:
                model.init_weights()
            except CONFIG_ERRORS as error:
                key = _repeated_key(error, cfg.model)
                raise with_key(error, key) from error
    return model


def _explain_build(
    error: Exception, nodes: Sequence[Node], model_cfg: Mapping
) -> Exception:
    for node in nodes:
        # Some of mmcv's builders report the type that they found: None.
        named = (f'{node.cfg["type"]} is not', 'find None in registry')
        if node.target is None and any(text in str(error) for text in named):
            return ValueError(
                unknown_type(
                    f'{node.key}.type', node.cfg['type'], node.scope, MODELS
                )
            )
    key = _failing_key(error, nodes)
    return with_key(error, key or _repeated_key(error, model_cfg))


def _failing_key(error: Exception, nodes: Sequence[Node]) -> str | None:
    """Return the key of the innermost node that alone fails the same way.

    ``None`` if it is the whole model that fails.
    """
    for node in sorted(nodes, key=lambda n: -n.key.count('.')):
        with DefaultScope.overwrite_default_scope(node.scope):
            try:
                MODELS.build(copy.deepcopy(node.cfg))
            except Exception as other:
                if (type(other), str(other)) == (type(error), str(error)):
                    return None if node.key == 'model' else node.key
    return None


def _repeated_key(error: Exception, model_cfg: Mapping) -> str:
    """Return the key whose value, say a path, is repeated by the error."""
    for key, value in _strings(model_cfg, 'model'):
        is_path = '/' in value or '.' in value
        if is_path and not value.startswith(REGEX) and value in str(error):
            return key
    return 'model'


def _strings(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, child in value.items():
            yield from _strings(child, f'{key}.{name}')
    elif isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            yield from _strings(child, f'{key}.{index}')


def with_key(error: Exception, key: str) -> Exception:
    """Return a ``ValueError``, or as public a one, that names a config key.

    Args:
        error: What a constructor has raised.
        key: What it was built from; not repeated if the message has it.
    """
    message = str(error)
    if isinstance(error, KeyError) and error.args:
        message = str(error.args[0])  # str() would add quotes
    if not message:  # as of a bare assert, whose line says it
        (*_, last) = traceback.extract_tb(error.__traceback__)
        message = f'{type(error).__name__}: {last.line}'
    kind: type[Exception] = ValueError
    for public in (FileNotFoundError, TypeError):
        if isinstance(error, public):
            kind = public
    named = re.search(rf'{re.escape(key)}(\.\w|=)', message)
    return kind(message if named else f'{key}: {message}')
