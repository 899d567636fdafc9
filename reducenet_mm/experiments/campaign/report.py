# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The report of a campaign: Markdown, JSON, a picture and console lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reducenet_mm.files import write_atomically, write_json

from ..estimates import interval_text
from ..text import amount
from .arms import Arm
from .figure import campaign_figure, main_comparisons
from .plan import PlannedArm
from .report_notes import notes

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
    figure = work_dir / 'campaign.svg'
    if any(arm['accuracy'] for arm in content['arms']):
        files[figure] = campaign_figure(content)
    write_atomically(files, remove=() if figure in files else [figure])


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
