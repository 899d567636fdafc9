# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Means over seeds, paired differences, and what they allow to be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
LEAST_SEEDS = 5
"""With fewer, nothing is called better or worse."""

CLEARLY_BETTER = 2
"""Points by which a teacher should beat the plain network to be of use."""

BETTER, WORSE = 'better', 'worse'
INCONCLUSIVE, TOO_FEW = 'inconclusive', 'too few seeds'
VERDICTS = BETTER, WORSE, INCONCLUSIVE
"""What enough seeds allow to be said."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        n: How many seeds.
        mean: Their mean.
        sd: Their standard deviation (n - 1); None of fewer than two.
        low: Lower end of the 95 % t interval of the mean; None likewise.
        high: Its upper end.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        """What a difference from zero of this mean allows to be said."""
        if self.n < LEAST_SEEDS or self.low is None or self.high is None:
            return TOO_FEW
        if self.low <= 0 <= self.high:
            return INCONCLUSIVE
        return BETTER if self.low > 0 else WORSE

    @property
    def p_value(self) -> float | None:
        """Of the two-sided t test of a mean of zero; None of one seed.

        Below 0.05 just where the interval does not contain zero.
        """
        if self.sd is None:
            return None
        if self.sd == 0:
            return float(self.mean == 0)
        t = abs(self.mean) * self.n**0.5 / self.sd
        return float(2 * stats.t.sf(t, self.n - 1))

    def side_of(self, limit: float) -> bool | None:
        """Whether the mean is at least ``limit``; None: cannot be told.

        It can be told if the interval is on one side and the seeds are
        enough.
        """
        if self.n < LEAST_SEEDS or self.low is None or self.high is None:
            return None
        if self.low < limit <= self.high:
            return None
        return self.low >= limit


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean, spread and 95 % t interval of values.

    Args:
        values: One of each seed, at least one.

    Raises:
        ValueError: If there is none.
    """
    if not values:
        raise ValueError('no values to estimate a mean from, got [].')
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Estimate(n, mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd / n**0.5
    return Estimate(n, mean, sd, mean - margin, mean + margin)


def paired_difference(
    values: Mapping[int, float], control: Mapping[int, float]
) -> Estimate | None:
    """Estimate the mean of ``values - control`` over their common seeds.

    The interval is that of the paired t test.

    Args:
        values: By seed.
        control: By seed.

    Returns:
        The estimate, or None if there is no common seed.
    """
    common = sorted(set(values) & set(control))
    if not common:
        return None
    return estimate([values[seed] - control[seed] for seed in common])


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by Holm's step-down method.

    Calling real what is below 0.05 is wrong anywhere among them with a
    probability of at most 0.05, however they depend on one another.

    Args:
        p_values: Of all tests that were made.

    Returns:
        The adjusted values, in the same order.

    Source:
        Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        factor = len(p_values) - rank
        highest = max(highest, min(1.0, factor * p_values[index]))
        adjusted[index] = highest
    return adjusted


def interval_text(estimate: Mapping[str, Any]) -> str:
    """Return a difference and its interval: '+0.31 [-0.02, 0.64]'."""
    text = f'{estimate["mean"]:+.2f}'
    if estimate['low'] is not None:
        text += f' [{estimate["low"]:.2f}, {estimate["high"]:.2f}]'
    return text
