# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Reports of several seeds, compared."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from reducenet_mm.experiments.pipeline.seed_comparison import (
    compare_seeds,
    seeds_markdown,
)

DIGITS = Path('docs/results/digits-until-saturation/report.json')
TEACHER = [99.0, 98.0, 97.0, 99.0, 98.0]
STUDENT = [98.0, 98.5, 98.0, 97.0, 98.5]
PLAIN = [97.0, 97.5, 96.5, 96.0, 97.0]


def reports(count: int = 5) -> list[dict[str, Any]]:
    """A real report, with other accuracies for each seed."""
    found = []
    for seed in range(count):
        report = copy.deepcopy(json.loads(DIGITS.read_text()))
        report['seed'] = seed
        report['command'] += f' seed={seed} --work-dir work_dirs/{seed}'
        for network in report['networks']:
            values = dict(teacher=TEACHER, reuse=STUDENT).get(
                network['name'], PLAIN
            )
            network['accuracy'] = values[seed]
        found.append(report)
    return found


def test_differences_are_paired_by_seed() -> None:
    content = compare_seeds(reports()[::-1])
    assert [one['seed'] for one in content['seeds']] == [0, 1, 2, 3, 4]
    assert list(content['differences']) == [
        'teacher',
        'plain',
        'plain_restart',
    ]
    for name, values in (('teacher', TEACHER), ('plain', PLAIN)):
        of_seeds = [a - b for a, b in zip(STUDENT, values, strict=True)]
        test = stats.ttest_1samp(of_seeds, 0)
        low, high = test.confidence_interval(0.95)
        found = content['differences'][name]
        assert found['mean'] == pytest.approx(sum(of_seeds) / 5)
        assert (found['low'], found['high']) == pytest.approx((low, high))
        assert found['p_value'] == pytest.approx(test.pvalue)
    assert content['differences']['plain']['verdict'] == 'better'
    assert content['differences']['plain']['p_holm'] == pytest.approx(
        3 * content['differences']['plain']['p_value']
    )
    assert content['differences']['teacher']['verdict'] == 'inconclusive'


def test_the_table_has_a_row_for_each_seed() -> None:
    text = seeds_markdown(compare_seeds(reports()))
    assert (
        '| 2 | reuse 99.67, soft_labels 99.67 | reuse | 97.00 | 98.00 | '
        '96.50 | 96.50 |'
    ) in text.splitlines()
    assert (
        '- student to plain, points: +1.20 [0.86, 1.54], better (Holm' in text
    )


def test_work_dirs_may_differ_however_they_are_written() -> None:
    one, other = reports(2)
    other['command'] = other['command'].replace('--work-dir ', '--work-dir=')
    assert '--work-dir=' in other['command']
    assert len(compare_seeds([one, other])['seeds']) == 2


def test_two_seeds_are_too_few_to_tell() -> None:
    content = compare_seeds(reports(2))
    assert {one['verdict'] for one in content['differences'].values()} == {
        'too few seeds'
    }
    assert 'Holm' not in seeds_markdown(content)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(seed=0), r'seeds \[0, 0\]: give one of each'),
        (dict(pipeline='other'), 'pipeline is'),
        (dict(metric='accuracy/top5'), 'metric is'),
        (dict(test_images=50), 'test_images is'),
        (dict(networks=[]), 'networks is'),
        (dict(versions={}), 'versions is'),
        (
            dict(command='python tools/reduce.py other.py'),
            r"command is .*'other\.py'",
        ),
    ],
)
def test_other_runs_are_not_mixed(
    change: dict[str, Any], message: str
) -> None:
    one, other = reports(2)
    with pytest.raises(ValueError, match=message):
        compare_seeds([one, dict(other, **change)])


def test_other_commits_are_told_and_other_packages_refused() -> None:
    one, other = reports(2)
    for report, commit in ((one, 'abc'), (other, 'def')):
        code = dict(commit=commit, dirty=commit == 'def', packages=dict(t='1'))
        report['trained_by'] = [code]
    lines = seeds_markdown(compare_seeds([one, other])).splitlines()
    assert lines[-3:] == [
        '- trained by different states of the code:',
        '  - seed 0: abc',
        '  - seed 1: def with uncommitted changes',
    ]
    del other['trained_by']  # as in reports of earlier versions
    lines = seeds_markdown(compare_seeds([one, other])).splitlines()
    assert lines[-2:] == ['  - seed 0: abc', '  - seed 1: unknown']
    other['trained_by'] = one['trained_by']
    assert 'states' not in seeds_markdown(compare_seeds([one, other]))
    other['trained_by'] = [dict(one['trained_by'][0], packages=dict(t='2'))]
    with pytest.raises(ValueError, match='versions in training are'):
        compare_seeds([one, other])


def test_a_pipeline_of_one_student_stage_has_no_ends_of_stages() -> None:
    content = compare_seeds([dict(one, stages=None) for one in reports(2)])
    assert '| 1 | - | reuse | ' in seeds_markdown(content)
