# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Names that may have been meant by one which is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Ask for the name nearest to ``name``, as part of an error.

    Args:
        name: What was given.
        known: What could have been given.
        cutoff: How alike it has to be, in [0, 1].

    Returns:
        ``"Did you mean 'nearest'? "`` with a space behind it, or an empty
        text if none is near.
    """
    near = difflib.get_close_matches(name, list(known), 1, cutoff)
    return f'Did you mean {near[0]!r}? ' if near else ''
