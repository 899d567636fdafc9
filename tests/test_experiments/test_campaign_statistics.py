# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Intervals against ones worked out by hand, and what is said of them."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from reducenet_mm.experiments.campaign.regime import describe_regime
from reducenet_mm.experiments.campaign.statistics import (
    Estimate,
    estimate,
    paired_difference,
)

# Student's t of 4 degrees of freedom, two-sided 95 %, from a printed table.
T_4 = 2.776


def test_an_interval_worked_out_by_hand() -> None:
    # Mean 3; squares 4 + 1 + 0 + 1 + 4 = 10, so sd = sqrt(10 / 4).
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    margin = T_4 * math.sqrt(2.5) / math.sqrt(5)
    assert (found.n, found.mean) == (5, 3.0)
    assert found.sd == pytest.approx(math.sqrt(2.5))
    assert found.low == pytest.approx(3 - margin, abs=1e-3)
    assert found.high == pytest.approx(3 + margin, abs=1e-3)


def test_differences_are_paired_by_seed_over_common_seeds() -> None:
    arm = {0: 91.0, 1: 80.5, 2: 85.2, 3: 90.4, 4: 70.3, 7: 1.0}
    control = {4: 70.0, 3: 90.0, 2: 85.0, 1: 80.0, 0: 90.0, 8: 99.0}
    # Differences 1.0, 0.5, 0.2, 0.4, 0.3: mean 0.48, squares 0.388.
    found = paired_difference(arm, control)
    assert found is not None
    sd = math.sqrt(0.388 / 4)
    assert (found.n, found.mean) == (5, pytest.approx(0.48))
    assert found.sd == pytest.approx(sd)
    assert found.low == pytest.approx(0.48 - T_4 * sd / math.sqrt(5), abs=1e-3)
    assert found.verdict == 'better'
    test = stats.ttest_rel(
        [arm[seed] for seed in range(5)], [control[seed] for seed in range(5)]
    ).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((test.low, test.high))


def test_without_common_seeds_there_is_no_difference() -> None:
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    with pytest.raises(ValueError, match='no values'):
        estimate([])


@pytest.mark.parametrize(
    ('values', 'verdict'),
    [
        ([1.0, 1.1, 0.9, 1.0, 1.05], 'better'),
        ([-1.0, -1.1, -0.9, -1.0, -1.05], 'worse'),
        ([1.0, -1.0, 0.5, 0.4, -0.2], 'inconclusive'),
        ([0.0] * 5, 'inconclusive'),
        ([0.5] * 5, 'better'),
        ([1.0, 1.1, 0.9, 1.0], 'too few seeds'),
        ([1.0], 'too few seeds'),
    ],
)
def test_what_may_be_said(values: list[float], verdict: str) -> None:
    assert estimate(values).verdict == verdict


def test_a_limit_is_on_a_side_only_if_the_whole_interval_is() -> None:
    above = Estimate(n=5, mean=2.5, sd=0.1, low=2.1, high=2.9)
    assert above.side_of(2) is True
    assert above.side_of(3) is False
    assert above.side_of(2.2) is None
    few = Estimate(n=4, mean=2.5, sd=0.1, low=2.1, high=2.9)
    assert few.side_of(2) is None


def spread(mean: float, width: float) -> dict[int, float]:
    steps = (-2, -1, 0, 1, 2)
    return {seed: mean + width * step for seed, step in enumerate(steps)}


ARMS = dict(control='plain', doubled='plain_2x', teacher='big')


def test_a_saturated_control_and_a_clearly_better_teacher() -> None:
    values = dict(
        plain=spread(90, 0.5), plain_2x=spread(90.1, 0.51), big=spread(93, 0.6)
    )
    found = describe_regime(ARMS, values)
    assert found['doubled']['holds'] and found['doubled']['certain']
    assert found['teacher']['holds'] and found['teacher']['certain']
    assert 'the plain control is saturated' in found['sentence']
    assert '+3.00 [2.80, 3.20] points: clearly better' in found['sentence']
    assert 'uncertain' not in found['sentence']


def test_not_saturated_a_weak_teacher_and_doubt() -> None:
    values = dict(
        plain=spread(90, 0.5), plain_2x=spread(91, 0.52), big=spread(91.8, 1.5)
    )
    found = describe_regime(ARMS, values)
    assert not found['doubled']['holds'] and found['doubled']['certain']
    assert not found['teacher']['holds'] and not found['teacher']['certain']
    assert 'is not saturated (less' in found['sentence']
    assert 'not clearly better' in found['sentence']
    assert found['sentence'].count('5 seed(s) leave uncertain') == 1


def test_a_regime_that_nobody_asked_about_is_not_known() -> None:
    sentence = describe_regime({}, {})['sentence']
    assert sentence.count('is not known') == 2
