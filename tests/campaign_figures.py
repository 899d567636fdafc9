# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Find what of a campaign's report does not follow from its runs.

Nothing of the package is used: means, intervals and the text of the tables
are made anew from ``results.jsonl``, see ``campaign_runs.py``.
"""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.campaign_runs import (
    Record,
    Values,
    by_arm,
    changed,
    differences,
    finished,
    interval,
    numbers,
    same,
    tested,
    verdict,
)
from tests.campaign_validation import wrong_validation


def wrong_cells(folder: Path, report: Record) -> list[str]:
    """Every arm and seed is there once; arms of a pair have equal seeds."""
    records = finished(folder)
    counts = Counter((one['arm'], one['seed']) for one in records)
    wrong = [f'{cell} {n} times' for cell, n in counts.items() if n > 1]
    planned = {
        (arm['name'], seed)
        for arm in report['arms']
        for seed in report['seeds']
    }
    wrong += [f'{cell} not planned' for cell in counts if cell not in planned]
    all_of = Counter(f'{r["arm"]} seed {r["seed"]}' for r in tested(folder))
    again = {cell: n for cell, n in all_of.items() if n > 1}
    if again != report.get('tested_again', {}):
        wrong.append('other cells were tested again')
    if changed(folder) != report['changed']:
        wrong.append('other cells were trained again')
    open_ = {f'{arm} seed {seed}' for arm, seed in planned - set(counts)}
    if open_ != set(report['open']) | set(report['failed']):
        wrong.append('other cells are open')
    if sum(code['cells'] for code in report['code']) != len(records):
        wrong.append('cells of another number of commits')
    seeds: dict[str, set[int]] = {}
    for arm, seed in counts:
        seeds.setdefault(arm, set()).add(seed)
    for pair in report['comparisons']:
        names = pair['arm'], pair['control']
        one, other = (seeds.get(name, set()) for name in names)
        # Of an unfinished campaign, one arm may have more than the other.
        if not (one <= other or other <= one):
            wrong.append(f'{names} have other seeds')
        n = pair['difference']['n'] if pair['difference'] else 0
        if n != len(one & other):
            wrong.append(f'{names} compared over {n} seeds')
    return wrong


def drops(folder: Path) -> dict[str, dict[str, float]]:
    """Return the mean accuracies around the switch, by arm and network."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in finished(folder):
        of_arm = found.setdefault(one['arm'], {})
        for network, accuracy in one['drop_shock'].items():
            of_arm.setdefault(network, []).append(accuracy)
    return {
        arm: {network: float(np.mean(v)) for network, v in of_arm.items()}
        for arm, of_arm in found.items()
    }


def wrong_accuracies(folder: Path, report: Record) -> list[str]:
    dropped = drops(folder)
    values = by_arm(folder, report['metric'])
    wrong = []
    for arm in report['arms']:
        of_arm = values.get(arm['name'], {})
        reported = {int(seed): v for seed, v in arm['values'].items()}
        if reported != of_arm or not same(
            arm['accuracy'], [of_arm[seed] for seed in sorted(of_arm)]
        ):
            wrong.append(f'accuracy of {arm["name"]}')
        if arm['drop_shock'] != pytest.approx(dropped.get(arm['name'], {})):
            wrong.append(f'drop of {arm["name"]}')
    return wrong


def wrong_differences(folder: Path, report: Record) -> list[str]:
    values = by_arm(folder, report['metric'])
    wrong = []
    for pair in report['comparisons']:
        names = pair['arm'], pair['control']
        found = differences(values, *names)
        said = verdict(found) if found else None
        if not same(pair['difference'], found) or pair['verdict'] != said:
            wrong.append(f'difference of {names}')
    wrong += wrong_p_values(report['comparisons'], values)
    arms = report['regime']['arms']
    for role in {'doubled', 'teacher'} & set(arms):
        found = differences(values, arms[role], arms['control'])
        if not same(report['regime'][role]['difference'], found):
            wrong.append(f'regime: {role}')
        if interval(found) not in report['regime']['sentence']:
            wrong.append(f'sentence: {role}')
    return wrong


def wrong_p_values(pairs: list[Record], values: Values) -> list[str]:
    """Adjusted: the largest of what those up to each become, one by one."""
    wrong, told = [], []
    for pair in pairs:
        names = pair['arm'], pair['control']
        found = differences(values, *names)
        constant = len(set(found)) < 2
        if not constant:
            wanted = stats.ttest_1samp(found, 0).pvalue
            if pair['p_value'] != pytest.approx(wanted):
                wrong.append(f'p-value of {names}')
        if len(found) >= 5:
            told.append(pair)
        elif pair['p_holm'] is not None:
            wrong.append(f'adjusted p-value of {names}')
    told.sort(key=lambda pair: pair['p_value'])
    for rank, pair in enumerate(told):
        wanted = max(
            min(1.0, (len(told) - index) * told[index]['p_value'])
            for index in range(rank + 1)
        )
        if pair['p_holm'] != pytest.approx(wanted):
            names = pair['arm'], pair['control']
            wrong.append(f'adjusted p-value of {names}')
    return wrong


def wrong_costs(folder: Path, report: Record) -> list[str]:
    """Totals add up, and are as near to what they match as epochs allow."""
    arms = {arm['name']: arm for arm in report['arms']}

    def needed(name: str) -> set[str]:
        direct = set(arms[name]['needs'].values())
        return direct.union(*(needed(other) for other in direct))

    wrong = []
    for one in finished(folder):
        arm = arms[one['arm']]
        for key in ('epochs', 'own_multiply_adds', 'total_multiply_adds'):
            if one[key] != pytest.approx(arm[key]):
                wrong.append(f'{key} of {one["arm"]} seed {one["seed"]}')
    for name, arm in arms.items():
        total = arm['own_multiply_adds'] + sum(
            arms[other]['own_multiply_adds'] for other in needed(name)
        )
        if arm['total_multiply_adds'] != pytest.approx(total):
            wrong.append(f'total of {name}')
        if arm['match'] is not None:
            wanted = arm['times'] * arms[arm['match']]['total_multiply_adds']
            epoch = arm['own_multiply_adds'] / arm['epochs']
            if abs(total - wanted) > 0.5001 * epoch:
                wrong.append(f'match of {name}')
            if arm['budget_ratio'] != pytest.approx(total / wanted):
                wrong.append(f'ratio of {name}')
    return wrong


def rounded(value: float) -> str:
    """Return three digits and a unit for each three places: '218 G'."""
    digits, _, places = f'{value:.2e}'.partition('e')
    unit, shift = divmod(int(places), 3)
    number = Decimal(digits).scaleb(shift).normalize()
    return f'{number:f} {" kMGTP"[unit]}'.rstrip()


def cost_cells(arm: Record) -> str:
    """Return what the page must say of an arm's size and cost."""
    training = rounded(arm['total_multiply_adds'])
    return (
        f'{arm["params"]:,} | {rounded(arm["multiply_adds"])} | '
        f'{training} ({arm["epochs"]})'
    )


def printed(folder: Path, report: Record) -> tuple[set[str], list[str]]:
    """Return the rows and further comparisons that the page must have."""
    values = by_arm(folder, report['metric'])
    arms = {arm['name']: arm for arm in report['arms']}
    costs = {name: arm['total_multiply_adds'] for name, arm in arms.items()}
    cells: dict[str, str] = {}
    lines = []
    for pair in report['comparisons']:
        arm, control = pair['arm'], pair['control']
        found = differences(values, arm, control)
        text, said = f'to {control}', '-'
        if found:
            text, said = f'{interval(found)} {text}', verdict(found)
            ratio = costs[control] / costs[arm]
            if abs(ratio - 1) > 0.05:
                text += f' ({ratio:.2f} times its cost)'
        if arm in cells or pair.get('later'):
            lines.append(f'- {arm}: {text}: {said}')
        else:
            cells[arm] = f'{text} | {said}'
    rows, dropped = set(), drops(folder)
    for name in arms:
        of_arm = list(values.get(name, {}).values())
        text = '-'
        if of_arm:
            _, mean, sd, _, _ = numbers(of_arm)
            text = f'{mean:.2f}' + ('' if sd is None else f' ± {sd:.2f}')
        drop = dropped.get(name, {})
        networks = ('teacher', 'student', 'student_recalibrated')
        parts = [
            f'{drop[one]:.1f}' if one in drop else '-'
            for one in networks[: 3 if networks[2] in drop else 2]
            if drop
        ]
        cell = cells.get(name, '- | -')
        last = ' → '.join(parts) or '-'
        size = f'{len(of_arm)} | {cell} | {cost_cells(arms[name])}'
        rows.add(f'| {name} | {text} | {size} | {last} |')
    return rows, lines


def by_chance(report: Record) -> str | None:
    """Return what the page must say of chance and of Holm's method.

    That is nothing where nothing is told, for want of seeds.
    """
    told = [p for p in report['comparisons'] if p['p_holm'] is not None]
    if not told:
        return None
    found = sum(pair['p_value'] < 0.05 for pair in told)
    left = [
        f'{p["arm"]} to {p["control"]}' for p in told if p['p_holm'] < 0.05
    ]
    return (
        f'- Of {len(told)} comparison(s) {found} are better or worse; were '
        'there no differences at all, about '
        f'{(1 - 0.95) * len(told):.1f} would be. Adjusted for their number by '
        f"Holm's method, {len(left)} remain"
        + (f': {", ".join(left)}.' if left else '.')
    )


def wrong_page(folder: Path, report: Record) -> list[str]:
    page = (folder / 'report.md').read_text(encoding='utf-8').splitlines()
    rows, lines = printed(folder, report)
    found = [line for line in page if line.startswith('| ')][1:]
    wrong = [f'page: {row}' for row in sorted(rows ^ set(found))]
    names = {arm['name'] for arm in report['arms']}
    further = [
        line
        for line in page
        if line.startswith('- ') and line[2:].split(':')[0] in names
    ]
    wrong += [f'page: {line}' for line in set(lines) ^ set(further)]
    said = [line for line in page if line.startswith('- Of ')]
    if said != [line for line in [by_chance(report)] if line]:
        wrong.append('page: what chance would give')
    if page[2] != report['regime']['sentence']:
        wrong.append('page: regime')
    return wrong


def all_wrong(folder: Path) -> list[str]:
    """Return what of a campaign's report does not follow from its runs."""
    report = json.loads((folder / 'report.json').read_text())
    checks = (
        wrong_cells,
        wrong_accuracies,
        wrong_differences,
        wrong_validation,
        wrong_costs,
        wrong_page,
    )
    return [text for check in checks for text in check(folder, report)]
