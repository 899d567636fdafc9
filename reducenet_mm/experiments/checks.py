# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Checks of a pipeline's or campaign's config that its parts share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def check_keys(where: str, item: Mapping[str, Any], known: set[str]) -> None:
    """Raise ``ValueError`` if ``item`` has a key that is not ``known``."""
    unknown = sorted(set(item) - known)
    if unknown:
        raise ValueError(
            f'{where} has unknown keys {unknown}; known are {sorted(known)}.'
        )


def check_entry(where: str, item: Any, known: set[str]) -> None:
    """Raise ``ValueError`` unless ``item`` is a dict of ``known`` keys."""
    if not isinstance(item, Mapping):
        raise ValueError(f'`{where}` must be a dict, got {item!r}.')
    check_keys(f'`{where}`', item, known)


def checked_config(
    where: str, item: Mapping[str, Any], source: Path, kind: str
) -> Path:
    """Return the config file that an entry names.

    Args:
        where: The entry's key.
        item: The entry, with `config` relative to the folder of ``source``.
        source: The config that it is in.
        kind: What that is the config of, such as ``'campaign'``.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If `config` is no string.
    """
    given = item.get('config')
    if not isinstance(given, str):
        raise ValueError(f'`{where}.config` must be a string, got {given!r}.')
    path = Path(os.path.normpath(source.parent / given))
    if not path.is_file():
        raise FileNotFoundError(
            f'`{where}.config`={given!r} is not there: {path} (relative to '
            f'the {kind} config {source}).'
        )
    return path


@contextmanager
def errors_of(name: str, config: Path) -> Iterator[None]:
    """Say in an error which stage, control or arm it is about."""
    where = f'{name} ({config})'
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{where}: {error}') from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{where}: {error}') from error
