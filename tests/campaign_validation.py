# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Find what a campaign's report says of validation and does not follow.

Nothing of the package is used, see ``campaign_runs.py``.
"""

from __future__ import annotations

from pathlib import Path

from tests.campaign_runs import (
    Record,
    Values,
    by_arm,
    differences,
    finished,
    interval,
    same,
    verdict,
)


def by_validation(folder: Path) -> Values:
    """Return the last validation of what met the test set, by arm."""
    values: Values = {}
    for one in finished(folder):
        if one['val'] is not None:
            values.setdefault(one['arm'], {})[one['seed']] = one['val']
    return values


def wrong_validation(folder: Path, report: Record) -> list[str]:
    """What validation says of each difference, and where it disagrees."""
    values, by_test = by_validation(folder), by_arm(folder, report['metric'])
    wrong, told, others = [], 0, []
    for arm in report['arms']:
        of_arm = values.get(arm['name'], {})
        if not same(arm['validation'], [of_arm[s] for s in sorted(of_arm)]):
            wrong.append(f'validation of {arm["name"]}')
    for pair in report['comparisons']:
        names = pair['arm'], pair['control']
        found, judged = differences(values, *names), pair['validation']
        said = verdict(found) if found else None
        if not same(judged['difference'], found) or judged['verdict'] != said:
            wrong.append(f'validation of {names}')
        of_test = differences(by_test, *names)
        if min(len(found), len(of_test)) >= 5:
            told += 1
            if verdict(of_test) != said:
                others.append(f'{" to ".join(names)} {interval(found)} {said}')
    line = f'- By validation accuracy, {len(others)} of {told} verdicts would'
    line += f' be others{": " if others else ""}{"; ".join(others)}.'
    page = (folder / 'report.md').read_text(encoding='utf-8').splitlines()
    said = [text for text in page if text.startswith('- By validation acc')]
    if said != [line][: bool(told)]:  # nothing, where nothing is told
        wrong.append('page: what validation says otherwise')
    return wrong + _wrong_regime(report['regime'], values)


def _wrong_regime(regime: Record, values: Values) -> list[str]:
    arms, wrong = regime['arms'], []
    _, _, sentence = regime['sentence'].partition('By validation')
    for role, subject in (
        ('doubled', 'twice the budget gains'),
        ('teacher', 'the teacher is ahead by'),
    ):
        if role not in arms:
            continue
        found = differences(values, arms[role], arms['control'])
        if not same(regime['validation'][role]['difference'], found):
            wrong.append(f'validation: {role}')
        if f'{subject} {interval(found)} points' not in sentence:
            wrong.append(f'sentence: validation of {role}')
    return wrong
