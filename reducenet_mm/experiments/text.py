# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Figures as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

UNITS = ((1e15, 'P'), (1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k'))


def amount(value: float) -> str:
    """Return a number with a decimal unit: 40,813,184 is '40.8 M'."""
    rounded = float(f'{value:.2e}')  # before it is divided, which is inexact
    for factor, unit in UNITS:
        if rounded >= factor:
            return f'{rounded / factor:.3g} {unit}'
    return f'{rounded:.3g}'


def epochs_text(epochs: Sequence[int]) -> str:
    """Return the epochs of stages in a row: '40 + 40'."""
    return ' + '.join(map(str, epochs))


def latency_text(latency: Mapping[str, Any] | None, batch: int) -> str:
    """Return a median and its quartiles: '1.23 [1.20, 1.31]'."""
    if latency is None:
        return '-'
    value = latency[str(batch)]
    low, high = value['quartiles_ms']
    return f'{_digits(value["median_ms"])} [{_digits(low)}, {_digits(high)}]'


def _digits(value: float) -> str:
    return f'{value:.3g}' if value < 999.5 else f'{value:.0f}'
