# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What the page of results takes out of files beside their tables."""

import json
from pathlib import Path

import pytest

from reducenet_mm.experiments.pipeline.seed_comparison import (
    compare_seeds,
    seeds_markdown,
)

ROOT = Path(__file__).parents[1]
CAMPAIGNS = ['digits-few', 'fashion-mnist-few', 'cifar10-jpeg-narrow']


def compared_later(folder: Path) -> list[str]:
    """Return a report's lines of students that its table does not compare.

    Each with the plain network of its cost.
    """
    report = json.loads((folder / 'report.json').read_text())
    planned = {p['arm'] for p in report['comparisons'] if not p['later']}
    found = []
    for arm in report['arms']:
        if 'model.teacher_ckpt' not in arm['needs'] or not arm['values']:
            continue
        if arm['name'] in planned:
            continue
        control = 'plain_matched' if arm['times'] == 1 else 'plain_double'
        found += [
            line
            for line in (folder / 'report.md').read_text().splitlines()
            if line.startswith(f'- {arm["name"]}: ')
            and f' to {control}: ' in line
        ]
    return found


@pytest.mark.parametrize('name', CAMPAIGNS)
def test_students_compared_after_a_look_are_quoted(name):
    page = (ROOT / 'docs/results.md').read_text(encoding='utf-8')
    lines = compared_later(ROOT / 'docs/results' / name)
    assert len(lines) >= 6
    assert '\n'.join(lines) in page


def test_the_table_of_seeds_follows_from_their_reports():
    folder = ROOT / 'docs/results/fashion-mnist-few-until-saturation'
    paths = [folder / 'report.json', *sorted(folder.glob('seed-*.json'))]
    reports = [json.loads(path.read_text()) for path in paths]
    assert [report['seed'] for report in reports] == [0, 1, 2, 3, 4]
    content = compare_seeds(reports)
    saved = json.loads((folder / 'seeds.json').read_text())
    assert saved['seeds'] == content['seeds']
    for name, one in content['differences'].items():
        assert saved['differences'][name] == pytest.approx(one)
    page = (ROOT / 'docs/results.md').read_text(encoding='utf-8')
    assert seeds_markdown(saved) in page


@pytest.mark.parametrize(
    'name', ['resnet18', 'resnet18-batch32', 'mobilenet-v2']
)
def test_peaks_of_grafted_networks_are_those_of_the_file(name):
    section = (ROOT / 'docs/results.md').read_text(encoding='utf-8')
    section = section[section.index('Peak memory of the same steps') :]
    head, _, *rows = [
        line.strip('| ').split(' | ')
        for line in section[: section.index('```')].splitlines()
        if line.startswith('|')
    ]
    path = ROOT / f'docs/results/step-cost/grafted-{name}.json'
    content = json.loads(path.read_text())
    cases = [
        {'stock': 'plain'}.get(cell, cell.replace(' ', '_'))
        for cell in head[1:]
    ]
    assert set(cases) == set(content['memory']) - {'annealed'}
    batch = content['settings']['batch']
    (row,) = [
        cells[1:]
        for cells in rows
        if cells[0].lower().replace('-', '').split(', ')
        == [name.split('-batch')[0].replace('-', ''), str(batch)]
    ]
    assert row == [
        f'{content["memory"][case]["peak"] / 2**20:.1f} MiB' for case in cases
    ]
