# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Intervals against ones worked out by hand, and what is said of them."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from reducenet_mm.experiments.campaign.regime import describe_regime
from reducenet_mm.experiments.estimates import (
    Estimate,
    estimate,
    holm,
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


def test_a_p_value_is_that_of_the_paired_t_test() -> None:
    values = [1.0, 0.5, 0.2, -0.4, 0.3]
    wanted = stats.ttest_1samp(values, 0).pvalue
    assert estimate(values).p_value == pytest.approx(wanted)
    assert estimate([0.5] * 5).p_value == 0
    assert estimate([0.0] * 5).p_value == 1
    assert estimate([0.5]).p_value is None


def test_holms_adjustment_worked_out_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.6: times 4, 3, 2, 1, never falling.
    found = holm([0.03, 0.01, 0.6, 0.02])
    assert found == pytest.approx([0.06, 0.04, 0.6, 0.06])
    assert holm([0.4, 0.5]) == pytest.approx([0.8, 0.8])
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


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
    assert found['sentence'] == (
        'Twice the budget (plain_2x) gains +0.10 [0.08, 0.12] points over '
        'plain: the plain control is saturated (less than 0.3 points '
        'wanted). The teacher (big) minus plain is +3.00 [2.80, 3.20] '
        'points: clearly better (at least 2 points wanted).'
    )


def test_not_saturated_a_weak_teacher_and_doubt() -> None:
    values = dict(
        plain=spread(90, 0.5), plain_2x=spread(91, 0.52), big=spread(91.8, 1.5)
    )
    found = describe_regime(ARMS, values)
    assert not found['doubled']['holds'] and found['doubled']['certain']
    assert not found['teacher']['holds'] and not found['teacher']['certain']
    assert 'is not saturated (less' in found['sentence']
    # 1.8, with a margin of 2.776 x 1.0 x sqrt(2.5 / 5).
    assert found['sentence'].endswith(
        '+1.80 [-0.16, 3.76] points: it does not seem clearly better (at '
        'least 2 points wanted), but 5 seeds leave it open: the interval '
        'also reaches 2 points or more.'
    )


def test_what_only_seems_so_is_not_said_to_be_so() -> None:
    values = dict(
        plain=spread(90, 0.5), plain_2x=spread(90, 0.8), big=spread(92.1, 1)
    )
    sentence = describe_regime(ARMS, values)['sentence']
    assert (
        'the plain control seems saturated (less than 0.3 points wanted), '
        'but 5 seeds leave it open: the interval also reaches 0.3 points or '
        'more.'
    ) in sentence
    assert (
        'it seems clearly better (at least 2 points wanted), but 5 seeds '
        'leave it open: the interval also reaches below 2 points.'
    ) in sentence
    values['plain_2x'] = spread(90.4, 0.8)
    sentence = describe_regime(ARMS, values)['sentence']
    assert (
        'seems not saturated (less than 0.3 points wanted), but 5 seeds '
        'leave it open: the interval also reaches below 0.3 points.'
    ) in sentence


@pytest.mark.parametrize(
    ('seeds', 'said'), [([3], '1 seed is'), ([0, 3], '2 seeds are')]
)
def test_few_seeds_are_too_few_to_tell(seeds: list[int], said: str) -> None:
    """Even if they agree to the last digit."""
    values = dict(
        plain=dict.fromkeys(seeds, 90.0),
        plain_2x=dict.fromkeys(seeds, 90.0),
        big=dict.fromkeys(seeds, 95.0),
    )
    found = describe_regime(ARMS, values)
    assert found['doubled']['holds'] and not found['doubled']['certain']
    assert found['teacher']['holds'] and not found['teacher']['certain']
    assert 'the plain control seems saturated' in found['sentence']
    assert 'it seems clearly better' in found['sentence']
    assert found['sentence'].count(f', but {said} too few to tell.') == 2


def test_validation_is_asked_too() -> None:
    values = dict(
        plain=spread(90, 0.5), plain_2x=spread(90.1, 0.51), big=spread(93, 0.6)
    )
    validation = dict(
        plain=spread(80, 0.5), plain_2x=spread(80.4, 0.8), big=spread(81, 0.51)
    )
    found = describe_regime(ARMS, values, validation)
    assert found['doubled']['holds'] and found['teacher']['holds']
    other = found['validation']
    assert not other['doubled']['holds'] and not other['doubled']['certain']
    assert not other['teacher']['holds'] and other['teacher']['certain']
    alone = describe_regime(ARMS, values)
    assert 'validation' not in alone
    assert found['sentence'] == (
        # 0.4, with a margin of 2.776 x 0.3 x sqrt(2.5 / 5).
        f'{alone["sentence"]} By validation accuracy twice the budget gains '
        '+0.40 [-0.19, 0.99] points (not saturated, which is left open) and '
        'the teacher is ahead by +1.00 [0.98, 1.02] points (not clearly '
        'better).'
    )
    none: dict[str, dict[int, float]] = dict(plain={}, plain_2x={}, big={})
    found = describe_regime(ARMS, values, none)
    assert found['sentence'] == alone['sentence']
    assert found['validation'] == {}


def test_a_regime_that_nobody_asked_about_is_not_known() -> None:
    sentence = describe_regime({}, {})['sentence']
    assert sentence.count('is not known') == 2
