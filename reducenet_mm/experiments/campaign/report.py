# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The report of a campaign: Markdown, JSON, a picture and console lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reducenet_mm.export.files import write_atomically, write_json

from ..text import amount
from .arms import Arm
from .figure import campaign_figure, main_comparisons
from .plan import PlannedArm
from .regime import interval_text
from .statistics import CONFIDENCE, INCONCLUSIVE, LEAST_SEEDS

HEADINGS = (
    'arm',
    '{compared} accuracy, %',
    'n',
    'difference to control',
    'verdict',
    'params',
    'multiply-adds',
    'training multiply-adds (own epochs)',
    'drop shock, %',
)


def write_report(content: Mapping[str, Any], work_dir: Path) -> None:
    """Write ``report.md``, ``report.json`` and ``campaign.svg``."""
    write_json(work_dir / 'report.json', content)
    files: dict[Path, bytes | str] = {
        work_dir / 'report.md': markdown(content)
    }
    if any(arm['accuracy'] for arm in content['arms']):
        files[work_dir / 'campaign.svg'] = campaign_figure(content)
    write_atomically(files)


def markdown(content: Mapping[str, Any]) -> str:
    """Return the report as Markdown; the regime comes first."""
    headings = [text.format(**content) for text in HEADINGS]
    lines = [f'# Campaign {content["campaign"]}', '']
    lines += [content['regime']['sentence'], '']
    lines.append(f'| {" | ".join(headings)} |')
    lines.append('|---|' + '---:|' * (len(headings) - 1))
    lines += [f'| {" | ".join(row)} |' for row in table_rows(content)]
    planned, later = _further_comparisons(content)
    if planned:
        lines += ['', 'Further comparisons:', '', *planned]
    if later:
        lines += ['', 'Chosen after a look at results:', '', *later]
    lines += ['', *(f'- {note}' for note in notes(content)), '']
    lines += ['```', content['command'], '```', '']
    return '\n'.join(lines)


def table_rows(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the report's table as text, one tuple for each arm."""
    main = main_comparisons(content)
    rows: list[tuple[str, ...]] = []
    for arm in content['arms']:
        difference, verdict = _difference(main.get(arm['name']))
        training = amount(arm['total_multiply_adds'])
        rows.append(
            (
                arm['name'],
                accuracy_text(arm['accuracy']),
                str(len(arm['values'])),
                difference,
                verdict,
                f'{arm["params"]:,}',
                amount(arm['multiply_adds']),
                f'{training} ({arm["epochs"]})',
                _drop_text(arm['drop_shock']),
            )
        )
    return rows


def accuracy_text(estimate: Mapping[str, Any] | None) -> str:
    """Return a mean and its standard deviation: '91.20 ± 0.31'."""
    if estimate is None:
        return '-'
    text = f'{estimate["mean"]:.2f}'
    if estimate['sd'] is not None:
        text += f' ± {estimate["sd"]:.2f}'
    return text


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
    by_arm: dict[str, list[str]] = {}
    for name in content['failed']:
        by_arm.setdefault(name.partition(' ')[0], []).append(name)
    for names in by_arm.values():
        error = content['failed'][names[-1]].strip()
        last = (error.splitlines() or [''])[-1]
        found.append(f'Failed: {", ".join(names)}; the last one: `{last}`')
    return found


def show_plan(
    planned: Mapping[str, PlannedArm], seeds: Sequence[int], console: Console
) -> None:
    """Print what is going to be trained, and at what cost."""
    table = Table(title=f'Plan: {len(planned)} arms, {len(seeds)} seeds')
    table.add_column('arm', no_wrap=True)
    for heading in ('epochs', 'images', 'own', 'total', 'of its budget'):
        table.add_column(heading, justify='right')
    for arm in planned.values():
        ratio = arm.budget_ratio
        table.add_row(
            arm.name,
            ' + '.join(map(str, arm.periods)),
            f'{arm.cost.images_per_epoch:,}',
            amount(arm.own_multiply_adds),
            amount(arm.total_multiply_adds),
            '' if ratio is None else f'{ratio:.3f} x {_budget(arm.arm)}',
        )
    console.print(table)


def _budget(arm: Arm) -> str:
    return arm.match or amount(arm.budget or 0)


def show_report(
    content: Mapping[str, Any], work_dir: Path, console: Console
) -> None:
    """Print the table, the regime and where the files are."""
    table = Table(title=f'Campaign {content["campaign"]}')
    table.add_column('arm', no_wrap=True)
    for heading in HEADINGS[1:5]:
        text = heading.format(**content)
        table.add_column(text, justify='right')
    for row in table_rows(content):
        table.add_row(*row[:5])
    console.print(table)
    console.print(content['regime']['sentence'], highlight=False, markup=False)
    for name in ('report.md', 'report.json', 'campaign.svg'):
        if (work_dir / name).exists():
            console.print(f'{work_dir / name}', highlight=False)


def _difference(comparison: Mapping[str, Any] | None) -> tuple[str, str]:
    if comparison is None:
        return '-', '-'
    text = f'to {comparison["control"]}'
    if comparison['difference'] is None:
        return text, '-'
    text = f'{interval_text(comparison["difference"])} {text}'
    if not comparison['matched']:
        text += f' ({comparison["cost_ratio"]:.2f} times its cost)'
    return text, str(comparison['verdict'])


def _further_comparisons(
    content: Mapping[str, Any],
) -> tuple[list[str], list[str]]:
    """Return an item for each comparison not in the table: planned, later."""
    main = main_comparisons(content).values()
    planned, later = [], []
    for comparison in content['comparisons']:
        difference, verdict = _difference(comparison)
        item = f'- {comparison["arm"]}: {difference}: {verdict}'
        if comparison['later']:
            later.append(item)
        elif comparison not in main:
            planned.append(item)
    return planned, later


def _drop_text(drop: Mapping[str, float]) -> str:
    """Return the accuracies around the switch: '93.1 → 10.2 → 88.0'."""
    if not drop:
        return '-'
    order = ['teacher', 'student']
    if 'student_recalibrated' in drop:
        order.append('student_recalibrated')
    values = [f'{drop[name]:.1f}' if name in drop else '-' for name in order]
    return ' → '.join(values)


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
        packages = ', '.join(
            f'{name} {number}' for name, number in code['packages'].items()
        )
        commits = _commit(code)
        if 'begun_by' in code:
            commits += f', begun by {_commit(code["begun_by"])}'
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


def _commit(code: Mapping[str, Any]) -> str:
    commit = code['commit'] or 'no git checkout'
    return f'{commit} with uncommitted changes' if code['dirty'] else commit
