# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""One paragraph in plain words, made from a report's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..estimates import CLEARLY_BETTER
from .report_stages import stage_reading

Network = Mapping[str, Any]


def plain_reading(content: Mapping[str, Any]) -> str:
    """Say what a pipeline's figures mean, and what they cannot say.

    Args:
        content: The content of ``report.json`` without the reading.
    """
    networks = content['networks']
    student = _with_role(networks, 'student')[-1]
    teacher = _with_role(networks, 'teacher')[-1]
    controls = _with_role(networks, 'control')
    sentences = [
        _student(student, teacher, content['test_images']),
        _drop(content),
        stage_reading(content),
        _controls(student, controls, content),
        _verdict(student, controls),
        _regime(teacher, controls),
        _caution(student, content),
        _interruptions(content),
    ]
    return ' '.join(filter(None, sentences))


def _student(student: Network, teacher: Network, images: int) -> str:
    gap = student['accuracy'] - teacher['accuracy']
    relation = _compared(gap, 'above its teacher', 'below its teacher')
    if relation is None:
        relation = 'as much as its teacher'
    smaller = teacher['multiply_adds'] / student['multiply_adds']
    fewer = teacher['params'] / student['params']
    return (
        f'The exported student reaches {student["accuracy"]:.2f} % on the '
        f'{images:,} test images, {relation} '
        f'({teacher["accuracy"]:.2f} %), with {smaller:.1f} times fewer '
        f'multiply-adds and {fewer:.1f} times fewer parameters.'
    )


def _drop(content: Mapping[str, Any]) -> str:
    drop = content['drop_shock']
    if 'teacher' not in drop or 'student' not in drop:
        return ''
    text = (
        'Switching the branches off took the validation accuracy from '
        f'{drop["teacher"]:.2f} % to {drop["student"]:.2f} %'
    )
    if 'student_recalibrated' in drop:
        text += (
            f' ({drop["student_recalibrated"]:.2f} % with recalibrated norms)'
        )
    students = _with_role(content['runs'], 'student')
    curve = students[0]['validation'] if students else []
    if curve and curve[-1][0] > 0:
        first = 'first student' if len(students) > 1 else 'student'
        text += f'; the {first} stage ended at {curve[-1][1]:.2f} %'
    return f'{text}.'


def _controls(
    student: Network, controls: Sequence[Network], content: Mapping[str, Any]
) -> str:
    runs = {run['name']: run for run in content['runs']}
    parts = []
    for control in controls:
        run = runs[control['name']]
        how = 'in one go'
        if len(run['periods']) > 1:
            how = 'with a learning-rate restart'
        gap = control['accuracy'] - student['accuracy']
        relation = _compared(gap, 'above the student', 'below the student')
        if relation is None:
            relation = 'as much as the student'
        parts.append(
            f'{control["accuracy"]:.2f} % {how} ({control["name"]}: '
            f'{run["budget_ratio"]:.3f} times that cost; {relation})'
        )
    if not parts:
        return ''
    return (
        'At the training cost of all stages together, the plain network '
        f'alone reaches {" and ".join(parts)}.'
    )


def _verdict(student: Network, controls: Sequence[Network]) -> str:
    if not controls:
        return (
            'No control was run, so nothing is known about whether the way '
            'over the teacher pays.'
        )
    best = max(controls, key=lambda control: control['accuracy'])
    gap = best['accuracy'] - student['accuracy']
    # As if each had its own test images; on the same ones it is less.
    noise = 2 * math.hypot(best['standard_error'], student['standard_error'])
    if abs(gap) <= noise:
        return (
            f'In this run the student and {best["name"]} are level: what '
            f'lies between them is within {noise:.2f} points, two standard '
            'errors of a difference.'
        )
    if gap > 0:
        return (
            f'In this run a control wins: {best["name"]} made better use of '
            'the same budget than teacher and student.'
        )
    return 'In this run the student is ahead of every control.'


def _regime(teacher: Network, controls: Sequence[Network]) -> str:
    if not controls:
        return ''
    unknown = (
        'Whether the plain network is saturated at this cost was not tested.'
    )
    best = max(control['accuracy'] for control in controls)
    gap = teacher['accuracy'] - best
    if gap >= CLEARLY_BETTER:
        return unknown
    return (
        f'With {gap:+.2f} points to the best control, the teacher is not '
        f'clearly better than the plain network ({CLEARLY_BETTER} points are '
        f'wanted). {unknown}'
    )


def _caution(student: Network, content: Mapping[str, Any]) -> str:
    return (
        f'All of this is one seed ({content["seed"]}), which says nothing '
        'about significance: another seed may reverse the order. The choice '
        'of test images alone gives an accuracy a standard error of about '
        f'{student["standard_error"]:.2f} points.'
    )


def _interruptions(content: Mapping[str, Any]) -> str:
    names = [run['name'] for run in content['runs'] if run['sessions'] > 1]
    if not names:
        return ''
    return f'Interrupted and continued: {", ".join(names)}.'


def _compared(gap: float, above: str, below: str) -> str | None:
    if round(abs(gap), 2) == 0:
        return None
    return f'{abs(gap):.2f} points {above if gap > 0 else below}'


def _with_role(items: Sequence[Network], role: str) -> list[Network]:
    return [item for item in items if item['role'] == role]
