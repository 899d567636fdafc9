# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The report of a pipeline: console, Markdown, JSON and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reducenet_mm.files import write_atomically, write_json

from ..figures import tradeoff_figure, validation_figure
from ..text import amount, epochs_text, latency_text
from .planned import Run
from .report_html import html_page
from .report_stages import STAGE_HEADINGS, stage_notes, stage_rows
from .report_versions import versions_text

HEADINGS = (
    'network',
    'test accuracy, %',
    'params',
    'multiply-adds',
    'training multiply-adds (epochs)',
    'latency 1 image, ms',
    'latency 64 images, ms',
)

CONSOLE_HEADINGS = (
    'test\n%',
    'params',
    'mult-\nadds',
    'training mult-\nadds (epochs)',
    'ms,\n1 img',
    'ms,\n64 img',
)


def table_rows(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the report's table as text, one tuple per network."""
    rows: list[tuple[str, ...]] = []
    for network in content['networks']:
        epochs = epochs_text(network['training_epochs'])
        training = amount(network['training_multiply_adds'])
        rows.append(
            (
                network['title'],
                f'{network["accuracy"]:.2f}',
                f'{network["params"]:,}',
                amount(network['multiply_adds']),
                f'{training} ({epochs})',
                latency_text(network['latency'], 1),
                latency_text(network['latency'], 64),
            )
        )
    return rows


def notes(content: Mapping[str, Any]) -> list[str]:
    """Say how the table's figures were made."""
    conditions = content['latency_conditions']
    return [
        f'Accuracy: the last epoch, not the best one. {_test_use(content)}',
        f'Multiply-adds: {content["counted"]} of one image. Training '
        "multiply-adds: forward and backward of all epochs, the teacher's "
        f'forward passes and, for the student, {_paid_stages(content)} '
        'included; validation and the recalibration of norms are not.',
        'Controls: as many whole epochs as come closest to the training '
        'multiply-adds of all stages together.',
        f'Latency: median [quartiles] in float32 on {conditions["device"]}, '
        f'{conditions["threads"]} thread(s), networks interleaved; a dash: '
        'the same network as a control above.',
        'The exported student differs from the supernet at scaler 0 by at '
        f'most {content["export"]["largest_difference"]:.1e} in float64, on '
        f'{content["export"]["num_images"]} {content["export"]["images"]} '
        'images.',
    ]


def _paid_stages(content: Mapping[str, Any]) -> str:
    stages = content.get('stages')
    if stages is None or stages['until'] is None:
        return 'all stages before it'
    return 'all stages that were trained, also those that lost,'


def _test_use(content: Mapping[str, Any]) -> str:
    """Say how often the test set has been looked at."""
    text = (
        'Each network as it is here answered the '
        f'{content["test_images"]:,} test images once, after all training.'
    )
    if content.get('validated_on_test'):
        text += (
            ' These are the validation images too, which the curves show '
            'during training: the test set is not unseen.'
        )
    again = [
        f'{network["name"]} {network["test_evaluations"]} times'
        for network in content['networks']
        if network['test_evaluations'] > 1
    ]
    if again:
        text += (
            ' Counting earlier ones, before a change of config or inputs: '
            f'{", ".join(again)}; the test set is no longer unseen.'
        )
    return text


def write_report(content: Mapping[str, Any], work_dir: Path) -> None:
    """Write ``report.json``, ``.md``, ``.html`` and its pictures as SVG."""
    write_json(work_dir / 'report.json', content)
    rows = table_rows(content)
    write_atomically(
        {
            work_dir / 'report.md': markdown(content, rows),
            work_dir / 'report.html': html_page(
                content, HEADINGS, rows, notes(content)
            ),
            work_dir / 'validation.svg': validation_figure(content),
            work_dir / 'tradeoff.svg': tradeoff_figure(content),
        }
    )


def markdown(content: Mapping[str, Any], rows: Sequence[Sequence[str]]) -> str:
    """Return the report as Markdown."""
    lines = [f'# Report of {content["pipeline"]}', '', content['reading'], '']
    lines.append(f'| {" | ".join(HEADINGS)} |')
    lines.append('|---|' + '---:|' * (len(HEADINGS) - 1))
    lines += [f'| {" | ".join(row)} |' for row in rows]
    lines += ['', *(f'- {note}' for note in notes(content)), '']
    lines += _stages(content)
    lines.append(f'Seed {content["seed"]}. Versions: {versions_text(content)}')
    lines += ['', '```', content['command'], '```', '']
    return '\n'.join(lines)


def _stages(content: Mapping[str, Any]) -> list[str]:
    """Return the Markdown lines about the student stages, if several."""
    rows = stage_rows(content)
    if not rows:
        return []
    return [
        '## Student stages',
        '',
        f'| {" | ".join(STAGE_HEADINGS)} |',
        '|---|' + '---:|' * (len(STAGE_HEADINGS) - 2) + '---|',
        *(f'| {" | ".join(row)} |' for row in rows),
        '',
        *(f'- {note}' for note in stage_notes(content)),
        '',
    ]


def show_plan(
    runs: Sequence[Run], console: Console, at_most: bool = False
) -> None:
    """Print what is going to be trained, and at what cost.

    Args:
        runs: The runs.
        console: Where to print.
        at_most: Whether stages may end early or be skipped.
    """
    table = Table(title='Plan, if no stage ends early' if at_most else 'Plan')
    table.add_column('run', no_wrap=True)
    for heading in ('epochs', 'images', 'multiply-adds', 'of the budget'):
        table.add_column(heading, justify='right')
    total = sum(run.multiply_adds for run in runs if run.role != 'control')
    for run in runs:
        periods = ' + '.join(map(str, run.periods or (run.epochs,)))
        table.add_row(
            run.name,
            periods,
            f'{run.cost.images_per_epoch:,}',
            amount(run.multiply_adds),
            f'{run.multiply_adds / total:.3f}',
        )
    console.print(table)


def show_report(
    content: Mapping[str, Any], work_dir: Path, console: Console
) -> None:
    """Print table, reading and where the files are."""
    table = Table(title=f'Report of {content["pipeline"]}')
    table.add_column('network', no_wrap=True)
    for heading in CONSOLE_HEADINGS:
        table.add_column(heading, justify='right')
    for network, row in zip(content['networks'], table_rows(content)):
        latencies = (cell.split(' [')[0] for cell in row[5:])
        table.add_row(network['name'], *row[1:5], *latencies)
    console.print(table)
    _show_stages(content, console)
    console.print(content['reading'], highlight=False, markup=False)
    for name in ('report.html', 'report.md', 'report.json', 'student'):
        console.print(f'{work_dir / name}', highlight=False, soft_wrap=True)


def _show_stages(content: Mapping[str, Any], console: Console) -> None:
    rows = stage_rows(content)
    if not rows:
        return
    table = Table(title='Student stages, validation')
    table.add_column('stage', no_wrap=True)
    for heading in ('start', 'end', 'gain', 'epochs', 'mult-adds'):
        table.add_column(heading, justify='right')
    table.add_column('outcome')
    for row in rows:
        table.add_row(*row)
    console.print(table)
