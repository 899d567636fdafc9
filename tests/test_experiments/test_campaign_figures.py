# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Committed reports of campaigns say what the committed runs give."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reducenet_mm.experiments.campaign.config import read_campaign
from tests.campaign_figures import all_wrong, rounded
from tests.campaign_runs import Record, finished
from tests.figures import RESULTS

CAMPAIGNS = sorted(path.parent for path in RESULTS.glob('*/results.jsonl'))
COMPLETE = [
    folder
    for folder in CAMPAIGNS
    if not json.loads((folder / 'report.json').read_text())['open']
]


@pytest.mark.parametrize('folder', CAMPAIGNS, ids=lambda path: path.name)
def test_the_report_follows_from_the_runs(folder: Path) -> None:
    report = json.loads((folder / 'report.json').read_text())
    least = 25 if folder in COMPLETE else 5
    assert report['compared'] == 'test' and len(finished(folder)) >= least
    assert not all_wrong(folder)


def reported_plan(report: Record) -> tuple[dict[str, Any], list[Any]]:
    """Return what a report says of its arms and what it compares."""
    keys = ('config', 'needs', 'match', 'times')
    arms = {arm['name']: [arm[key] for key in keys] for arm in report['arms']}
    pairs = [
        (one['arm'], one['control'], one['later'])
        for one in report['comparisons']
    ]
    return arms, pairs


@pytest.mark.parametrize('folder', CAMPAIGNS, ids=lambda path: path.name)
def test_all_cells_were_computed_with_the_campaigns_threads(
    folder: Path,
) -> None:
    found = {one['threads'] for one in finished(folder)}
    assert found == {1}


@pytest.mark.parametrize('folder', CAMPAIGNS, ids=lambda path: path.name)
def test_the_report_is_of_all_that_its_config_plans(folder: Path) -> None:
    report = json.loads((folder / 'report.json').read_text())
    config = shlex.split(report['command'])[2]
    campaign = read_campaign(config)
    assert f'configs/experiments/{folder.name}/' in config
    assert report['campaign'] == campaign.name
    assert report['metric'] == campaign.metric
    assert report['seeds'] == list(campaign.seeds)
    assert report['regime']['arms'] == campaign.regime
    planned = {
        arm.name: [str(arm.config), arm.needs, arm.match, arm.times]
        for arm in campaign.arms.values()
    }
    arms, pairs = reported_plan(report)
    assert list(arms.items()) == list(planned.items())
    assert pairs == [
        (arm, control, later)
        for later, wanted in (
            (False, campaign.comparisons),
            (True, campaign.later_comparisons),
        )
        for arm, control in wanted
        if {arm, control} <= set(planned)
    ]


def test_costs_are_rounded_to_three_digits() -> None:
    costs = (71_072, 999_500, 999_499, 70e9, 1.3720e11, 2.2e14, 640)
    assert [rounded(cost) for cost in costs] == [
        *('71.1 k', '1 M', '999 k', '70 G', '137 G', '220 T', '640'),
    ]


def change(path: Path, before: str, after: str) -> None:
    """Replace the first occurrence in a file; it must be there."""
    text = path.read_text(encoding='utf-8')
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding='utf-8')


def edit_runs(edit: Callable[[list[Record]], Any]) -> Callable[[Path], None]:
    def mutate(folder: Path) -> None:
        path = folder / 'results.jsonl'
        records = [json.loads(line) for line in path.open()]
        edit(records)
        path.write_text(''.join(json.dumps(one) + '\n' for one in records))

    return mutate


def edit_report(edit: Callable[[Record], Any]) -> Callable[[Path], None]:
    def mutate(folder: Path) -> None:
        path = folder / 'report.json'
        report = json.loads(path.read_text())
        edit(report)
        path.write_text(json.dumps(report))

    return mutate


def edit_page(before: str, after: str) -> Callable[[Path], None]:
    return lambda folder: change(folder / 'report.md', before, after)


def edit_cell(column: int) -> Callable[[Path], None]:
    """Put a digit before what a cell of the first arm holds."""

    def mutate(folder: Path) -> None:
        text = (folder / 'report.md').read_text(encoding='utf-8')
        row = text.split('---:|\n')[1].partition('\n')[0]
        cells = row.split('|')
        cells[column] = f' 9{cells[column].strip()} '
        change(folder / 'report.md', row, '|'.join(cells))

    return mutate


def other_verdict(folder: Path) -> None:
    """Say of the first arm with a verdict that it is another one."""
    path = folder / 'report.md'
    text = path.read_text(encoding='utf-8')
    verdict = re.search(r'\| (inconclusive|better|worse) \|', text)
    assert verdict
    other = 'worse' if verdict[1] == 'better' else 'better'
    change(path, verdict[0], f'| {other} |')


def of(records: list[Record], arm: str, turn: int) -> Record:
    """Return an arm's first record of one seed, by the seeds' order."""
    found = [record for record in records if record['arm'] == arm]
    seed = sorted({record['seed'] for record in found})[turn]
    return next(record for record in found if record['seed'] == seed)


def better_by(points: float, arm: str, seed: int) -> Callable[[Path], None]:
    def edit(records: list[Record]) -> None:
        of(records, arm, seed)['test']['accuracy/top1'] += points

    return edit_runs(edit)


def swap_seeds(records: list[Record]) -> None:
    """Pair other seeds: the same mean, another interval."""
    one, other = (of(records, 'plain_matched', seed) for seed in (0, 1))
    one['test'], other['test'] = other['test'], one['test']


def one_epoch_more(folder: Path) -> None:
    """Train an arm an epoch longer than its match allows, and say so."""
    report = json.loads((folder / 'report.json').read_text())
    arm = {arm['name']: arm for arm in report['arms']}['plain_matched']
    epoch = arm['own_multiply_adds'] / arm['epochs']

    def longer(item: Record) -> None:
        item['epochs'] += 1
        item['own_multiply_adds'] += epoch
        item['total_multiply_adds'] += epoch

    ratio = 1 + epoch / arm['total_multiply_adds']
    longer(arm)
    arm['budget_ratio'] *= ratio
    (folder / 'report.json').write_text(json.dumps(report))
    edit_runs(
        lambda records: [
            longer(of(records, 'plain_matched', turn))
            for turn in range(arm['accuracy']['n'])
        ]
    )(folder)


def first_difference(report: Record) -> Record:
    return report['comparisons'][0]['difference']


MUTATIONS: dict[str, tuple[Callable[[Path], None], str]] = {
    'accuracy': (
        better_by(0.2, 'plain_matched', 4),
        'accuracy of plain_matched',
    ),
    'of a control': (better_by(-0.2, 'plain_matched', 0), 'difference of'),
    'of a teacher': (better_by(0.2, 'teacher_e8', 1), 'regime: teacher'),
    'swapped seeds': (edit_runs(swap_seeds), 'difference of'),
    'no line': (edit_runs(lambda r: r.pop(7)), 'other cells are open'),
    'line twice': (edit_runs(lambda r: r.append(r[7])), ' 2 times'),
    'cost': (
        edit_runs(lambda r: r[9].update(total_multiply_adds=1e9)),
        'total_multiply_adds of',
    ),
    'drop': (
        edit_runs(lambda r: of(r, 'soft_e8', 3)['drop_shock'].popitem()),
        'drop of soft_e8',
    ),
    'match': (one_epoch_more, 'match of plain_matched'),
    'sign in JSON': (
        edit_report(lambda r: first_difference(r).update(low=0.5)),
        'difference of',
    ),
    'n in JSON': (
        edit_report(lambda r: first_difference(r).update(n=4)),
        'compared over 4 seeds',
    ),
    'p-value': (
        edit_report(lambda r: r['comparisons'][0].update(p_value=0.5)),
        'p-value of',
    ),
    'adjusted': (
        edit_report(lambda r: r['comparisons'][1].update(p_holm=0.5)),
        'adjusted p-value of',
    ),
    'verdict': (other_verdict, 'page: |'),
    'chance': (edit_page('would be. Adj', 'were. Adj'), 'page: what chance'),
    'digit': (edit_page(' ± ', ' ± 1'), 'page: |'),
    'sign': (edit_page('[-', '['), 'page: regime'),
    'a validation': (
        edit_runs(lambda r: of(r, 'plain_matched', 2).update(val=1.0)),
        'validation of plain_matched',
    ),
    'validation in JSON': (
        edit_report(
            lambda r: r['comparisons'][0]['validation'].update(verdict='worse')
        ),
        'validation of (',
    ),
    'validation of the regime': (
        edit_report(
            lambda r: r['regime']['validation']['teacher'].update(
                difference=None
            )
        ),
        'validation: teacher',
    ),
    'disagreeing validation': (
        edit_page('By validation accuracy, ', 'By validation accuracy, 1'),
        'page: what validation',
    ),
    'params': (edit_cell(6), 'page: |'),
    'multiply-adds': (edit_cell(7), 'page: |'),
    'training': (edit_cell(8), 'page: |'),
    'own epochs': (edit_page(' G (', ' G (1'), 'page: |'),
    'unit': (edit_page(' G (', ' M ('), 'page: |'),
    'cost in JSON': (
        edit_report(lambda r: r['arms'][0].update(params=1)),
        'page: |',
    ),
    'row': (
        edit_page('| plain_matched |', '| plane |'),
        'page: | plain_matched ',
    ),
    'further': (edit_page('Further', '- soft_e8: -1'), 'page: - soft_e8'),
}


def test_there_are_complete_campaigns_to_change() -> None:
    assert len(COMPLETE) >= 3


@pytest.mark.parametrize('folder', COMPLETE, ids=lambda path: path.name)
@pytest.mark.parametrize('name', MUTATIONS)
def test_what_does_not_follow_is_found(
    folder: Path, name: str, tmp_path: Path
) -> None:
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    mutate, expected = MUTATIONS[name]
    mutate(copy)
    assert any(expected in text for text in all_wrong(copy))
