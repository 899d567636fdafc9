# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What each student stage gained and cost, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..text import amount

STAGE_HEADINGS = (
    'student stage',
    'starts at, %',
    'ends at, %',
    'over the best before, points',
    'epochs',
    'training multiply-adds',
    'outcome',
)
STAGE_NOTE = (
    'Accuracy on the validation set, at the last epoch of each stage, on '
    'which alone stages are chosen. The teacher ({teacher}) has {accuracy} %.'
)


def stage_rows(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return one tuple of text per student stage, skipped ones included.

    Args:
        content: The content of ``report.json``.
    """
    stages = content.get('stages')
    if stages is None:
        return []
    rows = [_row(one) for one in stages['students']]
    blank = ('-',) * (len(STAGE_HEADINGS) - 2)
    rows += [(name, *blank, 'skipped') for name in stages['skipped']]
    return rows


def stage_notes(content: Mapping[str, Any]) -> list[str]:
    """Say what the table of stages is from, and why it ends."""
    stages = content['stages']
    teacher = stages['teacher']
    notes = [
        STAGE_NOTE.format(
            teacher=teacher['name'], accuracy=f'{teacher["accuracy"]:.2f}'
        )
    ]
    until = stages['until']
    if until is None:
        return [*notes, 'Every stage starts from the one before it.']
    start = 'Every stage starts from the best student before it'
    if until['patience'] is not None:
        gain = until['stage_min_gain'] or until['min_gain']
        start += (
            f' and ends early after {until["patience"]} validations in a row '
            f'without a gain of {gain:g} points'
        )
    return [*notes, f'{start}.', f'The end: {stages["end"]}.']


def stage_reading(content: Mapping[str, Any]) -> str:
    """Say in one sentence what the stages brought; '' if there is one."""
    stages = content.get('stages')
    if stages is None:
        return ''
    parts = [
        f'{one["name"]} {one["accuracy"]:.2f} %' for one in stages['students']
    ]
    (shipped,) = (s['name'] for s in stages['students'] if s['shipped'])
    text = (
        f'The student stages ended, on validation, at {", ".join(parts)}; '
        f'{shipped} is the student that is shipped. '
        f'The end: {stages["end"]}.'
    )
    if stages['skipped']:
        text += f' Not trained: {", ".join(stages["skipped"])}.'
    return text


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    start, gain = one['start'], one['gain']
    early = one['epochs'] < one['planned_epochs']
    outcomes = ['ended early'] if early else []
    outcomes += ['shipped'] if one['shipped'] else []
    return (
        one['name'],
        '-' if start is None else f'{start:.2f}',
        f'{one["accuracy"]:.2f}',
        '-' if gain is None else f'{gain:+.2f}',
        f'{one["epochs"]} of {one["planned_epochs"]}',
        amount(one['multiply_adds']),
        ', '.join(outcomes) or '-',
    )
