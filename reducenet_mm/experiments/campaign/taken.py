# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Values of other config files in an arm's training config.

So a campaign names a preset instead of a training config that repeats it, and
one set of arms serves every data set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from reducenet_mm.engine.config_file import read_config

from ..checks import flatten

DELETE = '_delete_'
"""MMEngine's mark of a dict that replaces another one."""


class Files:
    """Config files, relative to a folder; each is read once.

    Args:
        folder: That of the campaign config.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, Config] = {}

    def __getitem__(self, path: str) -> Config:
        """Return a config; it is not to be changed.

        Raises:
            FileNotFoundError: If it is not there.
            ValueError: If it cannot be read.
        """
        full = Path(os.path.normpath(self._folder / path))
        if full not in self._read:
            self._read[full] = read_config(str(full), None)
        return self._read[full]


def taken_options(
    where: str, config: str, take: Any, files: Files
) -> dict[str, Any]:
    """Return, as options, what an arm takes from other config files.

    Args:
        where: The arm, for errors, such as ``'arms.plain'``.
        config: Its training config, as the campaign names it.
        take: Key of the training config -> where its value is,
            ``'FILE:KEY'``, or a list of such places of lists or single items
            that are put together. What was there before is replaced whole,
            also inside a value that an earlier key has taken.
        files: The config files.

    Returns:
        Overrides of ``config``, by dotted key.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If ``take`` is not as above, or a key is not in its file.
    """
    if not isinstance(take, Mapping):
        raise ValueError(
            f"`{where}.take` must be a dict of KEY='FILE:KEY', got {take!r}."
        )
    whole: dict[str, Any] = {}
    for key, place in take.items():
        if not isinstance(key, str):
            raise ValueError(
                f'`{where}.take` has the key {key!r}; keys are dotted keys '
                'of the training config.'
            )
        value = _value(f'`{where}.take[{key!r}]`', place, files)
        outer = [one for one in whole if key.startswith(f'{one}.')]
        if not outer:
            whole[key] = value
            continue
        *path, last = key[len(outer[0]) + 1 :].split('.')
        around = _find(dict(at=whole[outer[0]]), '.'.join(['at', *path]))
        if not (around and isinstance(around[0], dict)):
            raise ValueError(
                f'`{where}.take[{key!r}]`: what `take[{outer[0]!r}]` gives '
                f'has no such place inside, got {whole[outer[0]]!r}.'
            )
        around[0][last] = value
    options: dict[str, Any] = {}
    own = files[config].to_dict()
    for key, value in whole.items():
        if isinstance(value, Mapping):
            if any(isinstance(old, Mapping) for old in _find(own, key)):
                options[f'{key}.{DELETE}'] = True
            options.update(flatten(value, f'{key}.'))
        else:
            options[key] = value
    return options


def _value(where: str, place: Any, files: Files) -> Any:
    """Return a copy of what is at a place, or at several, as plain data."""
    if isinstance(place, (list, tuple)):
        found = [_value(where, one, files) for one in place]
        return [
            item
            for one in found
            for item in (one if isinstance(one, list) else [one])
        ]
    path, colon, key = str(place).rpartition(':')
    if not colon:
        raise ValueError(
            f"{where} must be 'FILE:KEY', a key of another config file, got "
            f'{place!r}.'
        )
    content = files[path].to_dict()  # a copy
    found = _find(content, key)
    if not found:
        raise ValueError(
            f'{where}={place!r}: {path} has no {key!r}, but {sorted(content)}.'
        )
    return found[0]


def _find(config: Mapping[str, Any], key: str) -> list[Any]:
    """Return the value at a dotted key in a list, or an empty one."""
    value: Any = config
    for step in key.split('.'):
        if not isinstance(value, Mapping) or step not in value:
            return []
        value = value[step]
    return [value]
