# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..figures import colors, tradeoff_figure, validation_figure
from ..text import amount
from .report_stages import STAGE_HEADINGS, stage_notes, stage_rows
from .report_style import STYLE
from .report_versions import versions_text

CURVES_CAPTION = (
    'Validation accuracy over cumulative training multiply-adds. {} Controls, '
    'dashed, spend the same total on the plain network alone.'
)
ONE_STUDENT = (
    'The student begins at the dotted line, where the teacher ends, with what '
    'is left when the branches are switched off.'
)
MORE_STUDENTS = (
    'At each dotted line a student stage begins: the first one with what is '
    'left of the teacher when the branches are switched off, each other one '
    'with the student that it goes on from.'
)
TRADEOFF_CAPTION = (
    'Test accuracy against the cost of using a network and of training it. '
    'Bars: plus and minus one standard error from the choice of test images '
    'alone; the spread over seeds is not known. Networks of the same cost are '
    'drawn side by side. The accuracy axis does not start at zero.'
)


def html_page(
    content: Mapping[str, Any],
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
) -> str:
    """Return the whole page.

    Args:
        content: The content of ``report.json``.
        headings: Of the table.
        rows: The table's cells as text, in the order of the networks.
        notes: How the figures were made.
    """
    title = f'ReduceNet report: {content["pipeline"]}'
    note_items = ''.join(f'<li>{escape(note)}</li>' for note in notes)
    body = [
        f'<header><h1>{escape(title)}</h1><p>Seed {content["seed"]} · '
        f'reducenet_mm {content["versions"]["reducenet_mm"]}</p></header>',
        _cards(content),
        f'<p class="reading">{escape(content["reading"])}</p>',
        '<h2>Networks</h2>',
        _table(content, headings, rows),
        f'<ul class="notes">{note_items}</ul>',
        _stages(content),
        '<h2>Training</h2>',
        _figure(validation_figure(content), _curves_caption(content)),
        '<h2>Accuracy against cost</h2>',
        _figure(tradeoff_figure(content), TRADEOFF_CAPTION),
        '<h2>How it was run</h2>',
        _runs(content),
        _details(content),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>{escape(title)}</title><style>{STYLE}</style></head>'
        f'<body><main>{"".join(body)}</main></body></html>\n'
    )


def _cards(content: Mapping[str, Any]) -> str:
    networks = content['networks']
    by_role: dict[str, list[Mapping[str, Any]]] = {}
    for network in networks:
        by_role.setdefault(network['role'], []).append(network)
    student, teacher = by_role['student'][-1], by_role['teacher'][-1]
    smaller = teacher['multiply_adds'] / student['multiply_adds']
    cards = [
        ('student', f'{student["accuracy"]:.2f} %', 'test accuracy'),
        ('teacher', f'{teacher["accuracy"]:.2f} %', 'test accuracy'),
    ]
    if 'control' in by_role:
        best = max(by_role['control'], key=lambda one: one['accuracy'])
        cards.append(
            (
                f'best control: {best["name"]}',
                f'{best["accuracy"]:.2f} %',
                'test accuracy at the same training cost',
            )
        )
    cards.append(
        (
            'multiply-adds',
            f'{smaller:.1f}× fewer',
            f'{amount(teacher["multiply_adds"])} in the teacher, '
            f'{amount(student["multiply_adds"])} in the student',
        )
    )
    return '<div class="cards">{}</div>'.format(
        ''.join(
            f'<div class="card"><span>{escape(name)}</span>'
            f'<strong>{escape(value)}</strong><small>{escape(text)}</small>'
            '</div>'
            for name, value, text in cards
        )
    )


def _table(
    content: Mapping[str, Any],
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> str:
    color = colors(content['runs'])
    head = ''.join(f'<th scope="col">{escape(text)}</th>' for text in headings)
    lines = []
    for network, row in zip(content['networks'], rows, strict=True):
        dot = f'<i style="background:{color[network["name"]]}"></i>'
        cells = ''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])
        lines.append(
            f'<tr class="{network["role"]}"><th scope="row">{dot}'
            f'{escape(row[0])}</th>{cells}</tr>'
        )
    return (
        '<div class="scroll"><table id="networks"><thead><tr>'
        f'{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def _stages(content: Mapping[str, Any]) -> str:
    """Return the section on the student stages, if there are several."""
    rows = stage_rows(content)
    if not rows:
        return ''
    color = colors(content['runs'])
    head = ''.join(f'<th scope="col">{escape(h)}</th>' for h in STAGE_HEADINGS)
    shipped = {
        s['name'] for s in content['stages']['students'] if s['shipped']
    }
    lines = []
    for name, *cells in rows:
        shade = color.get(name, 'transparent')
        kind = 'student' if name in shipped else 'stage'
        dot = f'<i style="background:{shade}"></i>'
        lines.append(
            f'<tr class="{kind}"><th scope="row">{dot}{escape(name)}</th>'
            + ''.join(f'<td>{escape(cell)}</td>' for cell in cells)
            + '</tr>'
        )
    notes = ''.join(f'<li>{escape(n)}</li>' for n in stage_notes(content))
    return (
        '<h2>Student stages</h2><div class="scroll"><table id="stages">'
        f'<thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody>'
        f'</table></div><ul class="notes">{notes}</ul>'
    )


def _curves_caption(content: Mapping[str, Any]) -> str:
    students = [run for run in content['runs'] if run['role'] == 'student']
    return CURVES_CAPTION.format(
        MORE_STUDENTS if len(students) > 1 else ONE_STUDENT
    )


def _figure(svg: str, caption: str) -> str:
    return (
        f'<figure role="img" aria-label="{escape(caption)}">{svg}'
        f'<figcaption>{escape(caption)}</figcaption></figure>'
    )


def _runs(content: Mapping[str, Any]) -> str:
    headings = (
        'run',
        'epochs (restarts)',
        'images an epoch',
        'training multiply-adds an image',
        'in total',
        'of the stages’ total',
        'sessions',
    )
    total = content['stages_multiply_adds']
    head = ''.join(f'<th scope="col">{escape(text)}</th>' for text in headings)
    lines = []
    for run in content['runs']:
        periods = run['periods']
        restarts = f' ({" + ".join(map(str, periods))})' if periods[1:] else ''
        cells = (
            f'{run["epochs"]}{restarts}',
            f'{run["images_per_epoch"]:,}',
            amount(run['multiply_adds_per_image']),
            amount(run['multiply_adds']),
            f'{run["multiply_adds"] / total:.3f}',
            str(run['sessions']),
        )
        lines.append(
            f'<tr><th scope="row">{escape(run["name"])}</th>'
            + ''.join(f'<td>{escape(cell)}</td>' for cell in cells)
            + '</tr>'
        )
    return (
        '<div class="scroll"><table id="runs"><thead><tr>'
        f'{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def _details(content: Mapping[str, Any]) -> str:
    commands = [content['command']]
    commands += [run['command'] for run in content['runs']]
    commands += [one['test_command'] for one in content['networks']]
    text = '\n'.join(commands)
    return (
        f'<p class="notes">{escape(versions_text(content))} · '
        f'{escape(content["platform"])}</p><details><summary>Commands</summary>'
        f'<pre>{escape(text)}</pre></details>'
    )
