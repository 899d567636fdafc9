# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""One pipeline with several seeds: what their reports say together."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..code_version import commit_text
from ..estimates import VERDICTS, holm, interval_text, paired_difference

Report = Mapping[str, Any]

STUDENT = 'student'

READ = {
    'pipeline',
    'seed',
    'metric',
    'command',
    'versions',
    'test_images',
    'stages',
    'networks',
}
"""Keys of a report that are read here."""


def compare_seeds(reports: Sequence[Report]) -> dict[str, Any]:
    """Compare the shipped students with teacher and controls, by seed.

    Args:
        reports: Contents of ``report.json``, one of each seed.

    Returns:
        ``pipeline``, ``metric``; ``seeds``: of each its command, the
        commits that it was trained by, or 'unknown', the validation
        accuracies at the ends of the student stages, if there are
        several, the stage that is shipped, and the test accuracies of
        teacher, student and controls in percent; ``differences``: of the
        student to each of those, with the interval of the paired t test
        and, where there are enough seeds, p-values adjusted by Holm's
        method.

    Raises:
        ValueError: If there is only one report, two are of the same seed,
            or they differ in their command otherwise, in pipeline, rule,
            networks or versions. Changes inside config files are not seen,
            only that commits differ.
    """
    if len(reports) < 2:
        raise ValueError(
            f'two reports or more are compared, got {len(reports)}.'
        )
    reports = sorted(reports, key=lambda report: report['seed'])
    _check_alike(reports)
    seeds = [_of_seed(report) for report in reports]
    values = {
        name: {one['seed']: one['accuracy'][name] for one in seeds}
        for name in seeds[0]['accuracy']
    }
    students = values.pop(STUDENT)
    differences: dict[str, dict[str, Any]] = {}
    for name, others in values.items():
        found = paired_difference(students, others)
        assert found is not None  # all have the same seeds
        differences[name] = dict(
            asdict(found),
            verdict=found.verdict,
            p_value=found.p_value,
            p_holm=None,
        )
    told = [one for one in differences.values() if one['verdict'] in VERDICTS]
    for one, adjusted in zip(told, holm([one['p_value'] for one in told])):
        one['p_holm'] = adjusted
    return dict(
        pipeline=reports[0]['pipeline'],
        metric=reports[0]['metric'],
        test_images=reports[0]['test_images'],
        seeds=seeds,
        differences=differences,
    )


def seeds_markdown(content: Mapping[str, Any]) -> str:
    """Return a table of the seeds and a list of the differences.

    Args:
        content: What :func:`compare_seeds` returns.
    """
    names = list(content['seeds'][0]['accuracy'])
    head = ['seed', 'stages end at, validation %', 'shipped']
    head += [f'{name}, %' for name in names]
    lines = [_row(head), _row(['---:', '---', '---', *['---:'] * len(names)])]
    for one in content['seeds']:
        ends = (
            f'{stage["name"]} {stage["accuracy"]:.2f}'
            for stage in one['stages']
        )
        cells = [str(one['seed']), ', '.join(ends) or '-', one['shipped']]
        lines.append(
            _row(cells + [f'{one["accuracy"][name]:.2f}' for name in names])
        )
    lines.append('')
    for name, one in content['differences'].items():
        adjusted = one['p_holm']
        holm_text = '' if adjusted is None else f' (Holm: p = {adjusted:.2g})'
        lines.append(
            f'- student to {name}, points: {interval_text(one)}, '
            f'{one["verdict"]}{holm_text}'
        )
    states = {', '.join(one['trained_by']) for one in content['seeds']}
    if len(states) > 1:
        lines.append('- trained by different states of the code:')
        for one in content['seeds']:
            commits = ', '.join(one['trained_by'])
            lines.append(f'  - seed {one["seed"]}: {commits}')
    return '\n'.join(lines)


def _row(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'


def _of_seed(report: Report) -> dict[str, Any]:
    networks = {
        network['name']
        if network['role'] == 'control'
        else network['role']: network
        for network in report['networks']
        if network['role'] in ('teacher', STUDENT, 'control')
    }
    return dict(
        seed=report['seed'],
        command=report['command'],
        trained_by=[commit_text(one) for one in _trained_by(report)],
        stages=[
            dict(name=stage['name'], accuracy=stage['accuracy'])
            for stage in (report['stages'] or {}).get('students', [])
        ],
        shipped=next(
            network['name']
            for network in report['networks']
            if network['role'] == STUDENT
        ),
        accuracy={name: one['accuracy'] for name, one in networks.items()},
    )


def _check_alike(reports: Sequence[Report]) -> None:
    seeds = [report['seed'] for report in reports]
    if len(set(seeds)) < len(seeds):
        raise ValueError(
            f'the reports are of the seeds {seeds}: give one of each, made by '
            'tools/reduce.py with --cfg-options seed=N.'
        )
    for key, of in (
        ('pipeline', lambda report: report['pipeline']),
        ('metric', lambda report: report['metric']),
        ('until', lambda report: (report['stages'] or {}).get('until')),
        ('test_images', lambda report: report['test_images']),
        ('networks', _networks),
        ('versions', lambda report: report['versions']),
        ('command', _command),
    ):
        found = [of(report) for report in reports]
        if any(one != found[0] for one in found):
            raise ValueError(
                f'the reports differ in more than their seeds: {key} is '
                f'{found}. Compare runs of one pipeline.'
            )
    trained_with = [
        code['packages']
        for report in reports
        for code in _trained_by(report)
        if code is not None
    ]
    if any(one != trained_with[0] for one in trained_with):
        raise ValueError(
            'the reports differ in more than their seeds: versions in '
            f'training are {trained_with}. Compare runs of one pipeline.'
        )


def _trained_by(report: Report) -> Sequence[Mapping[str, Any] | None]:
    """Return versions of the code; reports did not always say them."""
    return report.get('trained_by', [None])


def _command(report: Report) -> list[str]:
    """Return the words of a command without its seed and its work dir."""
    words = shlex.split(report['command'])
    if '--work-dir' in words:
        at = words.index('--work-dir')
        del words[at : at + 2]
    of_one = ('seed=', '--work-dir=')
    words = [word for word in words if not word.startswith(of_one)]
    return [word for word in words if word != '--cfg-options']


def _networks(report: Report) -> list[tuple[str, float]]:
    """Return what is tested, with its size; students by their role."""
    return [
        (
            STUDENT if network['role'] == STUDENT else network['name'],
            network['multiply_adds'],
        )
        for network in report['networks']
    ]
