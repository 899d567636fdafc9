# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What a campaign's report says and draws, from figures made by hand."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from reducenet_mm.experiments.campaign.figure import campaign_figure
from reducenet_mm.experiments.campaign.regime import describe_regime
from reducenet_mm.experiments.campaign.report import (
    markdown,
    notes,
    table_rows,
    write_report,
)
from reducenet_mm.experiments.campaign.statistics import estimate

VALUES = dict(
    plain=[90.0, 90.2, 90.4, 90.6, 90.8],
    restart=[89.9, 90.3, 90.3, 90.7, 90.7],
    soft=[91.0, 91.3, 91.4, 91.5, 91.9],
)


def arm(name: str, cost: float, epochs: int) -> dict[str, Any]:
    values = VALUES[name]
    return dict(
        name=name,
        match=None if name == 'soft' else 'soft',
        times=1.0,
        budget_ratio=None if name == 'soft' else cost / 1e12,
        epochs=epochs,
        total_multiply_adds=cost,
        params=77_754,
        multiply_adds=764_000,
        values={str(seed): value for seed, value in enumerate(values)},
        accuracy=asdict(estimate(values)),
        drop_shock={},
    )


def comparison(
    name: str, control: str, matched: bool = True
) -> dict[str, Any]:
    pairs = zip(VALUES[name], VALUES[control], strict=True)
    difference = estimate([value - other for value, other in pairs])
    return dict(
        arm=name,
        control=control,
        difference=asdict(difference),
        verdict=difference.verdict,
        p_value=difference.p_value,
        p_holm=difference.p_value,
        cost_ratio=1.004 if matched else 0.5,
        matched=matched,
        later=False,
    )


@pytest.fixture
def content() -> dict[str, Any]:
    """Student 1.02 points above its control, restart level with it."""
    arms = [
        arm('plain', 1.004e12, 30),
        arm('restart', 1.004e12, 30),
        arm('soft', 1e12, 9),
    ]
    arms[2]['drop_shock'] = dict(teacher=92.5, student=10.0)
    by_seed = {name: dict(enumerate(v)) for name, v in VALUES.items()}
    return dict(
        campaign='tiny',
        compared='test',
        seeds=[0, 1, 2, 3, 4],
        command='python tools/experiment.py tiny.py',
        counted='convolutions and linear layers',
        code=[
            dict(packages=dict(torch='2'), commit='abc', dirty=True, cells=15)
        ],
        arms=arms,
        comparisons=[
            comparison('soft', 'plain'),
            comparison('restart', 'plain', matched=False),
            comparison('soft', 'restart'),
        ],
        regime=describe_regime(dict(control='plain', teacher='soft'), by_seed),
        open=[],
        failed={},
        tested=[],
        tested_again={},
        changed={},
    )


def test_the_table(content: dict[str, Any]) -> None:
    plain, restart, soft = table_rows(content)
    assert plain[:5] == ('plain', '90.40 ± 0.32', '5', '-', '-')
    # Differences 1.0, 1.1, 1.0, 0.9, 1.1: sd 0.0837, t 2.776.
    assert soft[3:5] == ('+1.02 [0.92, 1.12] to plain', 'better')
    # -0.1, 0.1, -0.1, 0.1, -0.1: mean -0.02, sd 0.1095.
    assert restart[3:5] == (
        '-0.02 [-0.16, 0.12] to plain (0.50 times its cost)',
        'inconclusive',
    )
    assert soft[5:] == ('77,754', '764 k', '1 T (9)', '92.5 → 10.0')


def test_the_regime_comes_first_and_other_pairs_after_the_table(
    content: dict[str, Any],
) -> None:
    lines = markdown(content).splitlines()
    assert lines[0] == '# Campaign tiny'
    assert lines[2] == content['regime']['sentence']
    assert 'soft) minus plain is +1.02' in lines[2]
    further = lines.index('Further comparisons:')
    pair = '- soft: +1.04 [0.85, 1.23] to restart: better'
    assert lines[further + 2] == pair


def test_it_says_what_chance_would_give(content: dict[str, Any]) -> None:
    said = [one for one in notes(content) if 'Holm' in one]
    assert said == [
        'Of 3 comparison(s) 2 are better or worse; were there no differences '
        'at all, about 0.2 would be. Adjusted for their number by '
        "Holm's method, 2 remain: soft to plain, soft to restart."
    ]
    content['comparisons'][2]['p_holm'] = 0.06
    for one in content['comparisons'][:2]:
        one['p_holm'] = None  # too few seeds
    (said,) = [one for one in notes(content) if 'Holm' in one]
    assert said.startswith('Of 1 comparison(s) 1 are better or worse')
    assert said.endswith('method, 0 remain.')
    content['comparisons'] = []
    assert not [one for one in notes(content) if 'Holm' in one]


def test_it_says_how_closely_a_budget_was_met(content: dict[str, Any]) -> None:
    for one in content['arms']:
        if one['name'] == 'soft':
            one.update(budget=1.25e12, budget_ratio=0.997)
    (said,) = [one for one in notes(content) if 'Matched' in one]
    assert 'soft 0.997 times 1.25 T multiply-adds' in said


def test_what_was_asked_later_is_in_a_list_of_its_own(
    content: dict[str, Any],
) -> None:
    for one in content['comparisons'][1:]:
        one['later'] = True
    lines = markdown(content).splitlines()
    assert 'Further comparisons:' not in lines
    asked = lines.index('Chosen after a look at results:')
    assert lines[asked + 2 : asked + 5] == [
        '- restart: -0.02 [-0.16, 0.12] to plain (0.50 times its cost): '
        'inconclusive',
        '- soft: +1.04 [0.85, 1.23] to restart: better',
        '',
    ]
    _, restart, soft = table_rows(content)
    assert restart[3:5] == ('-', '-') and soft[4] == 'better'


def test_notes_tell_matches_code_and_what_is_missing(
    content: dict[str, Any],
) -> None:
    text = '\n'.join(notes(content))
    assert 'plain 1.004 times soft; restart 1.004 times soft.' in text
    assert '15 cell(s) by abc with uncommitted changes; torch 2.' in text
    begun = dict(packages=dict(torch='2'), commit='old', dirty=False)
    content['code'][0].update(dirty=False, begun_by=begun)
    text = '\n'.join(notes(content))
    assert '15 cell(s) by abc, begun by old; torch 2.' in text
    assert 'answered the test set once' in text
    assert '\nSeeds change initialisation, order and augmentation, not' in text
    assert 'Without a result' not in text and 'Failed' not in text
    content.update(
        open=['soft seed 4'],
        failed={
            'soft seed 2': 'ended\n\nKeyError: no',
            'plain seed 3': 'not started',
            'soft seed 3': 'ended\n\nValueError: no',
        },
        tested_again={'plain seed 0': 2},
    )
    text = '\n'.join(notes(content))
    assert 'Without a result so far: soft seed 4.' in text
    both = 'Failed: soft seed 2, soft seed 3; the last one: `ValueError: no`'
    assert both in text
    assert 'Failed: plain seed 3; the last one: `not started`' in text
    assert 'plain seed 0 2 times' in text
    assert 'Trained again' not in text
    content['changed'] = {'plain seed 0': 1.5, 'soft seed 1': 1.0}
    text = '\n'.join(notes(content))
    assert (
        'result: plain seed 0, soft seed 1; the last validation differs by up '
        'to 1.50 points'
    ) in text
    content['compared'] = 'validation'
    assert 'The test set was not looked at.' in '\n'.join(notes(content))
    content['tested'] = ['plain seed 0']
    assert 'not looked at' not in '\n'.join(notes(content))


def test_a_campaign_without_a_result_is_reported_too(
    content: dict[str, Any], tmp_path: Path
) -> None:
    for one in content['arms']:
        one.update(accuracy=None, values={})
    content['comparisons'] = [
        dict(item, difference=None, verdict=None)
        for item in content['comparisons']
    ]
    write_report(content, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        'report.json',
        'report.md',
    }
    assert table_rows(content)[2][1:5] == ('-', '0', 'to plain', '-')


def labels(svg: str) -> dict[str, float]:
    """Return the vertical position of each text of a picture, top first."""
    found = re.findall(r' ([\d.]+)\)">([^<]+)</text>', svg)
    return {text: float(y) for y, text in found}


def drawn(name: str, cost: float, values: list[float]) -> dict[str, Any]:
    return dict(
        name=name,
        total_multiply_adds=cost,
        values={str(seed): value for seed, value in enumerate(values)},
        accuracy=asdict(estimate(values)),
    )


def order(svg: str) -> list[str]:
    """Return headings and names of arms from the top to the bottom."""
    found = labels(svg)
    rows = [text for text in found if re.search(r'multiply-adds$|  ', text)]
    return sorted(rows, key=found.__getitem__)


def left_ticks(found: dict[str, float]) -> list[float]:
    numbers = [float(text) for text in found if re.fullmatch(r'[\d.]+', text)]
    return [number for number in numbers if number > 50]  # accuracies


def test_arms_of_equal_cost_stand_under_one_another_cheapest_first(
    content: dict[str, Any],
) -> None:
    # soft costs 0.4 % less: as good as the same.
    content['arms'].append(drawn('cheap', 2e9, [80.0, 81.0]))
    content['arms'].append(dict(content['arms'][0], name='no', accuracy=None))
    assert order(campaign_figure(content)) == [
        '2 G multiply-adds',
        'cheap  80.50',
        '1 T multiply-adds',
        'plain  90.40',
        'restart  90.38',
        'soft  91.42',
    ]
    # Costs that are not the same are not said to be.
    content['arms'][2]['total_multiply_adds'] = 0.99e12
    rows = order(campaign_figure(content))
    assert rows[2] == '990 G to 1 T multiply-adds'
    content['arms'][2]['total_multiply_adds'] = 0.9e12
    assert order(campaign_figure(content))[2:4] == [
        '900 G multiply-adds',
        'soft  91.42',
    ]


def test_the_picture_names_each_control_beside_its_arm(
    content: dict[str, Any],
) -> None:
    svg = campaign_figure(content)
    found = labels(svg)
    assert found['to plain'] == pytest.approx(found['soft  91.42'], abs=3)
    assert found['to plain (0.50 times its cost)'] == pytest.approx(
        found['restart  90.38'], abs=3
    )
    assert 'to restart' not in found  # a further comparison


def test_a_mean_far_from_the_others_is_written_and_does_not_stretch_the_axis(
    content: dict[str, Any],
) -> None:
    far = [60.0, 61.0, 62.0, 61.0, 61.0]
    content['arms'].append(drawn('far', 1e12, far))
    # Squares 1 + 0 + 1: sd 0.7071, margin 2.776 x 0.7071 / sqrt(5).
    text = '◂ 61.00 [60.12, 61.88]'
    found = labels(campaign_figure(content))
    assert found[text] == pytest.approx(found['far  61.00'], abs=3)
    assert min(left_ticks(found)) >= 89
    # Near enough: it is drawn, and nothing is written.
    content['arms'][-1] = drawn('far', 1e12, [value + 27 for value in far])
    found = labels(campaign_figure(content))
    assert min(left_ticks(found)) <= 88
    assert not any('◂' in text for text in found)


def test_many_arms_stay_apart(content: dict[str, Any]) -> None:
    arms = [
        drawn(f'arm{index}', 1e12, [90 + index / 40, 90.1 + index / 40])
        for index in range(50)
    ]
    content.update(arms=arms, comparisons=[])
    svg = campaign_figure(content)
    found = labels(svg)
    heights = [found[text] for text in order(svg)]
    assert len(heights) == 51
    gaps = [after - before for before, after in zip(heights, heights[1:])]
    assert min(gaps) > 15  # points; the letters are 10 high


def test_one_arm_with_one_seed_can_be_drawn(content: dict[str, Any]) -> None:
    arms = [drawn('only', 5e9, [90.0])]
    svg = campaign_figure(dict(content, arms=arms, comparisons=[]))
    assert order(svg) == ['5 G multiply-adds', 'only  90.00']
    assert svg.count('fill: #ffffff; stroke: #0f766e') == 1  # hollow
    assert campaign_figure(dict(content, arms=arms, comparisons=[])) == svg
