# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What may be given for a number: Python counts ``True`` as 1."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether ``value`` is an int or a float, and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether ``value`` is an int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def checked_int(
    key: str, value: Any, least: int, most: int | None = None
) -> int:
    """Return ``value``; ``ValueError`` unless it is an int of the range."""
    if not is_whole(value) or value < least:
        raise ValueError(
            f'`{key}` must be an integer >= {least}, got {value!r}.'
        )
    if most is not None and value > most:
        raise ValueError(
            f'`{key}` must be an integer <= {most}, got {value!r}.'
        )
    return value


def as_number(value: object) -> float | None:
    """Return a metric as a float; None if it is a table, a text or nothing.

    Args:
        value: Such as a number of Python's, NumPy's or torch's.
    """
    if value is None or isinstance(value, str) or np.ndim(value) != 0:  # type: ignore[arg-type]
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
