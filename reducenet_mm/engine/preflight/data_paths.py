# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Check that the files and folders a dataloader names are there."""

from __future__ import annotations

import inspect
import os.path as osp
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from ..toolbox import default_scope
from .model_keys import resolve

_PATH_KEYS = ('data_root', 'data_prefix', 'ann_file')


def check_data_paths(cfg: Config, field: str) -> None:
    """Check the data of one dataloader.

    Data sets that download themselves and paths on remote storage are
    passed over.

    Args:
        cfg: The full config.
        field: Key of the dataloader, for example ``'train_dataloader'``.

    Raises:
        FileNotFoundError: If ``data_root``, ``data_prefix`` or ``ann_file``
            of a data set, at any depth, names what is not there.
    """
    dataset = (cfg.get(field) or {}).get('dataset')
    for key, node in walk_dicts(dataset, f'{field}.dataset'):
        if not any(node.get(name) for name in _PATH_KEYS):
            continue
        scope = node.get('_scope_', default_scope(cfg))
        target = resolve(node.get('type'), scope, (DATASETS,))
        if not downloads(node, target) and not _is_remote(node):
            _check_node(node, key)


def walk_dicts(value: Any, key: str) -> Iterator[tuple[str, Mapping]]:
    """Yield key and value of each dict, but those inside a `pipeline`."""
    if isinstance(value, Mapping):
        yield key, value
        for name, child in value.items():
            if name != 'pipeline':
                yield from walk_dicts(child, f'{key}.{name}')
    elif isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            yield from walk_dicts(child, f'{key}.{index}')


def downloads(node: Mapping, target: Callable | None) -> bool:
    """Whether a data set fetches what is missing (argument ``download``)."""
    if 'download' in node or target is None:
        return bool(node.get('download', False))
    parameter = inspect.signature(target).parameters.get('download')
    return parameter is not None and parameter.default is True


def _is_remote(node: Mapping) -> bool:
    """Whether its backend, maybe by a `path_mapping`, reads from elsewhere."""
    settings = node.get('backend_args') or node.get('file_client_args') or {}
    return settings.get('backend', 'local') not in ('local', 'disk')


def _check_node(node: Mapping, key: str) -> None:
    root = node.get('data_root') or ''
    for name, value in _paths(node):
        below = '' if name == 'data_root' else root
        path = osp.expanduser(osp.join(below, value))
        if '://' in path or osp.exists(path):
            continue
        raise FileNotFoundError(
            f'{key}.{name}={value!r}: {path!r} is not there. Put the data '
            f'set there, or pass --cfg-options {key}.{name}=PATH.'
        )


def _paths(node: Mapping) -> Iterator[tuple[str, str]]:
    for name in _PATH_KEYS:
        value = node.get(name)
        entries = value if isinstance(value, Mapping) else {'': value}
        for part, path in entries.items():
            if isinstance(path, str) and path:
                yield f'{name}.{part}' if part else name, path
