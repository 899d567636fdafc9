# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What a config may give for a number: Python counts ``True`` as 1."""

from __future__ import annotations

from typing import TypeGuard


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether ``value`` is an int or a float, and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether ``value`` is an int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)
