# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Checks of a pipeline's or campaign's config that its parts share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reducenet_mm.plain_numbers import is_whole


def check_keys(where: str, item: Mapping[str, Any], known: set[str]) -> None:
    """Raise ``ValueError`` if ``item`` has a key that is not ``known``."""
    unknown = sorted(set(item) - known)
    if unknown:
        raise ValueError(
            f'{where} has unknown keys {unknown}; known are {sorted(known)}.'
        )


def checked_int(key: str, value: Any, least: int) -> int:
    """Return ``value``; ``ValueError`` unless it is an int >= ``least``."""
    if not is_whole(value) or value < least:
        raise ValueError(
            f'`{key}` must be an integer >= {least}, got {value!r}.'
        )
    return value


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
