# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""In which regime a campaign is: where a teacher could help, or not.

A student can only gain from a teacher if the plain network has nothing left
to gain from the same budget, and the teacher knows clearly more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..estimates import (
    CLEARLY_BETTER,
    LEAST_SEEDS,
    interval_text,
    paired_difference,
)

SATURATED = 0.3
"""A control is saturated if twice the budget gains less, in points."""


def describe_regime(
    regime: Mapping[str, str],
    values: Mapping[str, Mapping[int, float]],
    validation: Mapping[str, Mapping[int, float]] | None = None,
) -> dict[str, Any]:
    """Say whether the control is saturated and the teacher clearly better.

    Args:
        regime: Arms by role: 'control', 'doubled', 'teacher'.
        values: Accuracy in percent by arm and seed.
        validation: The same of the validation images, if ``values`` are of
            others. Defaults to None.

    Returns:
        ``sentence``, and for 'doubled' and 'teacher', where known, the
        paired ``difference`` to the control, whether it ``holds`` and
        whether that is ``certain``: the interval agrees. What the
        validation images say of the two is in ``validation``.
    """
    content: dict[str, Any] = dict(arms=dict(regime), **_judge(regime, values))
    sentences = [_saturation(content), _teacher(content)]
    if validation is not None:
        content['validation'] = _judge(regime, validation)
        sentences += _by_validation(content['validation'])
    content['sentence'] = ' '.join(sentences)
    return content


def _judge(
    regime: Mapping[str, str], values: Mapping[str, Mapping[int, float]]
) -> dict[str, Any]:
    """Return what is known of 'doubled' and 'teacher'."""
    found: dict[str, Any] = {}
    for role, limit in (('doubled', SATURATED), ('teacher', CLEARLY_BETTER)):
        if role not in regime or 'control' not in regime:
            continue
        arm, control = values[regime[role]], values[regime['control']]
        difference = paired_difference(arm, control)
        if difference is None:
            continue
        reached = difference.mean >= limit
        found[role] = dict(
            difference=asdict(difference),
            holds=reached if role == 'teacher' else not reached,
            certain=difference.side_of(limit) is not None,
        )
    return found


def _saturation(content: Mapping[str, Any]) -> str:
    judged, arms = content.get('doubled'), content['arms']
    if judged is None:
        return 'Whether the plain control is saturated is not known.'
    verb = 'is' if judged['certain'] else 'seems'
    return (
        f'Twice the budget ({arms["doubled"]}) gains '
        f'{interval_text(judged["difference"])} points over '
        f'{arms["control"]}: the plain control {verb}'
        f'{"" if judged["holds"] else " not"} saturated (less than '
        f'{SATURATED} points wanted){_left_open(judged, SATURATED)}.'
    )


def _teacher(content: Mapping[str, Any]) -> str:
    judged, arms = content.get('teacher'), content['arms']
    if judged is None:
        return 'Whether the teacher is clearly better is not known.'
    said = f'{"" if judged["holds"] else "not "}clearly better'
    if not judged['certain']:
        verb = 'seems' if judged['holds'] else 'does not seem'
        said = f'it {verb} clearly better'
    return (
        f'The teacher ({arms["teacher"]}) minus {arms["control"]} is '
        f'{interval_text(judged["difference"])} points: {said} (at least '
        f'{CLEARLY_BETTER} points wanted)'
        f'{_left_open(judged, CLEARLY_BETTER)}.'
    )


def _by_validation(judged: Mapping[str, Any]) -> list[str]:
    """Return a sentence on what the validation images say, if anything."""
    parts = []
    for role, subject, wanted in (
        ('doubled', 'twice the budget gains', 'saturated'),
        ('teacher', 'the teacher is ahead by', 'clearly better'),
    ):
        if role in judged:
            one = judged[role]
            negation = '' if one['holds'] else 'not '
            open_ = '' if one['certain'] else ', which is left open'
            parts.append(
                f'{subject} {interval_text(one["difference"])} points '
                f'({negation}{wanted}{open_})'
            )
    return [f'By validation accuracy {" and ".join(parts)}.'] if parts else []


def _left_open(judged: Mapping[str, Any], limit: float) -> str:
    """Say why a difference may yet be on the other side of a limit."""
    if judged['certain']:
        return ''
    n, mean = judged['difference']['n'], judged['difference']['mean']
    if n < LEAST_SEEDS:
        seeds = '1 seed is' if n == 1 else f'{n} seeds are'
        return f', but {seeds} too few to tell'
    reach = f'{limit} points or more'
    if mean >= limit:
        reach = f'below {limit} points'
    return f', but {n} seeds leave it open: the interval also reaches {reach}'
