# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Read a config file; what is wrong in one is told from faults of code."""

from __future__ import annotations

import inspect
import os.path as osp
import sys
import traceback
from collections.abc import Mapping
from types import FrameType
from typing import Any

from mmengine.config import Config
from mmengine.runner import FlexibleRunner, Runner

from reducenet_mm.spelling import did_you_mean

_FILE_ERRORS = (OSError, SyntaxError, ImportError)
"""What a config is the reason of, wherever it is raised."""

_READERS = {None, 'addict', 'mmengine', 'yaml', *sys.stdlib_module_names}
"""Packages, and config files themselves (None), that read a config."""


_SECTIONS = {
    *inspect.signature(FlexibleRunner).parameters,
    *inspect.signature(Runner).parameters,
    'activation_checkpointing',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
    'tta_cfg',
    'tta_dataloader',
    'tta_evaluator',
    'tta_model',
    'tta_pipeline',
}
"""What MMEngine and the tools read of a config, whether it is there or not."""


def read_config(path: str, options: Mapping[str, Any] | None) -> Config:
    """Read a config file and merge ``options`` (by dotted key) into it.

    Raises:
        FileNotFoundError: If the config file is not there.
        ValueError: If it is not a config, imports what is not there, or an
            option cannot be applied.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'config file {path!r} is not there.')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:
        if not (isinstance(error, _FILE_ERRORS) or _is_of_config(error)):
            raise
        raise ValueError(
            f'config file {path!r} cannot be read: {_reason(error)}'
        ) from error
    _check_spelling(cfg, options or {})
    try:
        cfg.merge_from_dict(dict(options or {}))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f'--cfg-options {options} cannot be applied to {path!r}: {error}'
        ) from error
    _check_imports(cfg)
    return cfg


def _check_spelling(cfg: Config, options: Mapping[str, Any]) -> None:
    """Refuse an option whose section looks like a typo of another.

    Other sections of one's own are taken: hooks may read them.
    """
    known = {*cfg, *_SECTIONS}
    for key, value in options.items():
        section = key.partition('.')[0]
        hint = section not in known and did_you_mean(section, known, 0.9)
        if hint:
            raise ValueError(
                f'--cfg-options {key}={value!r}: there is no section '
                f'{section!r}. {hint}'.rstrip()
            )


def _check_imports(cfg: Config) -> None:
    """Import all that a new-style config has still to import.

    Raises:
        ValueError: If something cannot be imported.
    """
    try:
        _import_values(cfg)
    except ImportError as error:
        raise ValueError(
            f'config file {cfg.filename!r} cannot be used: {error}'
        ) from error


def _import_values(value: Any) -> None:
    if isinstance(value, Config):
        imported = getattr(value, '_imported_names', ())
        value = {key: value[key] for key in value if key not in imported}
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            _import_values(inner)


def _is_of_config(error: Exception) -> bool:
    """Whether a config file raised it, not a module that it imports."""
    _, *frames = traceback.walk_tb(error.__traceback__)  # without our own
    return {_package(frame) for frame, _ in frames} <= _READERS


def _package(frame: FrameType) -> str | None:
    """Return whose code it is; that of a config file has no ``__name__``."""
    name = frame.f_globals.get('__name__')
    return None if name is None else name.partition('.')[0]


def _reason(error: Exception) -> str:
    """Return an error as text, with the file and line if it names none."""
    if isinstance(error, _FILE_ERRORS):
        return str(error)
    message: Any = error
    if isinstance(error, KeyError) and error.args:
        message = error.args[0]  # str() would add quotes
    places = [
        f' (in {frame.f_code.co_filename!r}, line {line})'
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _package(frame) is None
    ]
    place = places[-1] if places else ''
    if not str(message):  # as of MMEngine where a lazy import is called
        message = 'of which nothing else is known'
    return f'{type(error).__name__}: {message}{place}'
