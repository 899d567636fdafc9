# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What stands below the table of a campaign's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..code_version import commit_text, packages_text
from ..estimates import (
    CONFIDENCE,
    INCONCLUSIVE,
    LEAST_SEEDS,
    VERDICTS,
    interval_text,
)
from ..text import amount


def notes(content: Mapping[str, Any]) -> list[str]:
    """Say how the table's figures were made, and what is missing."""
    percent = round(100 * CONFIDENCE)
    found = [
        'Accuracy: mean ± standard deviation over n seeds '
        f'({", ".join(map(str, content["seeds"]))}), the last epoch, not the '
        f'best one. {_use_of_test(content)}',
        f'Differences: paired by seed (same data order), with the {percent} '
        '% interval of the paired t test, not adjusted for their number. '
        'Inconclusive: the interval contains zero. With fewer than '
        f'{LEAST_SEEDS} seeds nothing is called better or worse.',
        *_by_chance(content),
        *_by_validation(content),
        'Seeds change initialisation, order and augmentation, not which '
        'images are trained on or tested with.',
        f'Multiply-adds: {content["counted"]} of one image. Training '
        "multiply-adds: forward and backward of all epochs, the teacher's "
        'forward passes and all arms that an arm needs included (each once); '
        'validation and the recalibration of norms are not.',
        *_matches(content),
        *_provenance(content),
        *_changed(content),
    ]
    if content['open']:
        missing = ', '.join(content['open'])
        found.append(f'Without a result so far: {missing}.')
    return found + _failed(content)


def _failed(content: Mapping[str, Any]) -> list[str]:
    """Name the cells of each arm that failed, with the last error."""
    found = []
    by_arm: dict[str, list[str]] = {}
    for name in content['failed']:
        by_arm.setdefault(name.partition(' ')[0], []).append(name)
    for names in by_arm.values():
        error = content['failed'][names[-1]].strip()
        last = (error.splitlines() or [''])[-1]
        found.append(f'Failed: {", ".join(names)}; the last one: `{last}`')
    return found


def _use_of_test(content: Mapping[str, Any]) -> str:
    if content['compared'] == 'validation':
        if content['tested']:
            return 'Results of the test set are not shown.'
        return 'The test set was not looked at.'
    text = 'Each network answered the test set once, after its training.'
    again = [
        f'{name} {count} times'
        for name, count in content['tested_again'].items()
    ]
    if again:
        text += (
            ' Counting earlier ones, before a change of config or inputs: '
            f'{", ".join(again)}.'
        )
    return text


def _by_chance(content: Mapping[str, Any]) -> list[str]:
    """Say how many verdicts chance alone would give, and which are left."""
    told = [c for c in content['comparisons'] if c['p_holm'] is not None]
    if not told:
        return []
    found = sum(c['verdict'] != INCONCLUSIVE for c in told)
    left = [
        f'{c["arm"]} to {c["control"]}'
        for c in told
        if c['p_holm'] < 1 - CONFIDENCE
    ]
    by_chance = (1 - CONFIDENCE) * len(told)
    return [
        f'Of {len(told)} comparison(s) {found} are better or worse; were '
        f'there no differences at all, about {by_chance:.1f} would be. '
        "Adjusted for their number by Holm's method, "
        f'{len(left)} remain{": " if left else ""}{", ".join(left)}.'
    ]


def _by_validation(content: Mapping[str, Any]) -> list[str]:
    """Say which verdicts the validation images do not confirm."""
    told = [
        c
        for c in content['comparisons']
        if c['verdict'] in VERDICTS
        and c['validation']
        and c['validation']['verdict'] in VERDICTS
    ]
    if not told:
        return []
    others = [
        f'{c["arm"]} to {c["control"]} '
        f'{interval_text(c["validation"]["difference"])} '
        f'{c["validation"]["verdict"]}'
        for c in told
        if c['validation']['verdict'] != c['verdict']
    ]
    return [
        f'By validation accuracy, {len(others)} of {len(told)} verdicts '
        f'would be others{": " if others else ""}{"; ".join(others)}.'
    ]


def _matches(content: Mapping[str, Any]) -> list[str]:
    """Say how closely each budget was matched."""
    parts = [
        f'{arm["name"]} {arm["budget_ratio"]:.3f} times '
        + ('' if arm['times'] == 1 else f'{arm["times"]:g} times ')
        + (arm['match'] or f'{amount(arm["budget"])} multiply-adds')
        for arm in content['arms']
        if arm['budget_ratio'] is not None
    ]
    if not parts:
        return []
    return [f'Matched in whole epochs, by total cost: {"; ".join(parts)}.']


def _provenance(content: Mapping[str, Any]) -> list[str]:
    """Say which code the results are from."""
    found = []
    for code in content['code']:
        packages = packages_text(code['packages'])
        commits = commit_text(code)
        if 'begun_by' in code:
            commits += f', begun by {commit_text(code["begun_by"])}'
        found.append(f'{code["cells"]} cell(s) by {commits}; {packages}.')
    return found


def _changed(content: Mapping[str, Any]) -> list[str]:
    """Warn of cells that other arms do not start from as they are shown."""
    changed = content['changed']
    if not changed:
        return []
    return [
        'Trained again, as other arms start from them, with another result: '
        f'{", ".join(changed)}; the last validation differs by up to '
        f'{max(changed.values()):.2f} '
        'points. The table has the one that was tested; arms that were run '
        'after another training start from that.'
    ]
