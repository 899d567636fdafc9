# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""In which regime a campaign is: where a teacher could help, or not.

A student can only gain from a teacher if the plain network has nothing left
to gain from the same budget, and the teacher knows clearly more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..reading import CLEARLY_BETTER
from .statistics import LEAST_SEEDS, Estimate, paired_difference

SATURATED = 0.3
"""A control is saturated if twice the budget gains less, in points."""


def describe_regime(
    regime: Mapping[str, str], values: Mapping[str, Mapping[int, float]]
) -> dict[str, Any]:
    """Say whether the control is saturated and the teacher clearly better.

    Args:
        regime: Arms by role: 'control', 'doubled', 'teacher'.
        values: Accuracy in percent by arm and seed.

    Returns:
        ``sentence``, and for 'doubled' and 'teacher', where known, the
        paired ``difference`` to the control, whether it ``holds`` and
        whether that is ``certain``: the interval agrees.
    """
    content: dict[str, Any] = dict(arms=dict(regime))
    sentences = [
        _question(regime, values, content, 'doubled', SATURATED),
        _question(regime, values, content, 'teacher', CLEARLY_BETTER),
    ]
    content['sentence'] = ' '.join(sentences)
    return content


def interval_text(estimate: Mapping[str, Any]) -> str:
    """Return a difference and its interval: '+0.31 [-0.02, 0.64]'."""
    text = f'{estimate["mean"]:+.2f}'
    if estimate['low'] is not None:
        text += f' [{estimate["low"]:.2f}, {estimate["high"]:.2f}]'
    return text


def _question(
    regime: Mapping[str, str],
    values: Mapping[str, Mapping[int, float]],
    content: dict[str, Any],
    role: str,
    limit: float,
) -> str:
    arm, control = regime.get(role), regime.get('control')
    difference = None
    if arm is not None and control is not None:
        difference = paired_difference(values[arm], values[control])
    if difference is None:
        return {
            'doubled': 'Whether the plain control is saturated is not known.',
            'teacher': 'Whether the teacher is clearly better is not known.',
        }[role]
    reached = difference.mean >= limit
    holds = reached if role == 'teacher' else not reached
    certain = difference.side_of(limit) is not None
    content[role] = dict(
        difference=asdict(difference), holds=holds, certain=certain
    )
    figures = interval_text(asdict(difference))
    if role == 'doubled':
        said = f'{"is" if certain else "seems"}{"" if holds else " not"}'
        text = (
            f'Twice the budget ({arm}) gains {figures} points over '
            f'{control}: the plain control {said} saturated (less than '
            f'{limit} points wanted)'
        )
    else:
        said = f'{"" if holds else "not "}clearly better'
        if not certain:
            verb = 'seems' if holds else 'does not seem'
            said = f'it {verb} clearly better'
        text = (
            f'The teacher ({arm}) minus {control} is {figures} points: '
            f'{said} (at least {limit} points wanted)'
        )
    return f'{text}{"" if certain else _left_open(difference, limit)}.'


def _left_open(difference: Estimate, limit: float) -> str:
    """Say why a difference may yet be on the other side of a limit."""
    if difference.n < LEAST_SEEDS:
        seeds = (
            '1 seed is' if difference.n == 1 else f'{difference.n} seeds are'
        )
        return f', but {seeds} too few to tell'
    reach = f'{limit} points or more'
    if difference.mean >= limit:
        reach = f'below {limit} points'
    return (
        f', but {difference.n} seeds leave it open: the interval also '
        f'reaches {reach}'
    )
