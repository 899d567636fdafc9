# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Few combinations of many settings, with all pairs of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

Row = tuple[str, ...]


def combinations(
    axes: Sequence[Sequence[str]], allowed: Callable[..., bool]
) -> list[Row]:
    """Return every allowed row with one value of each axis."""
    return [row for row in itertools.product(*axes) if allowed(*row)]


def pairwise(rows: Sequence[Row]) -> list[Row]:
    """Choose rows such that each pair of values of ``rows`` is in one.

    Greedy: next is the row with most pairs that are not covered yet, the
    first of these, so the choice is always the same. Not the fewest rows
    possible, but close.
    """
    pairs = {row: set(_pairs(row)) for row in rows}
    missing = set().union(*pairs.values())
    chosen = []
    while missing:
        row = max(rows, key=lambda row: len(pairs[row] & missing))
        chosen.append(row)
        missing -= pairs[row]
    return chosen


def _pairs(row: Row) -> itertools.combinations:
    return itertools.combinations(enumerate(row), 2)
