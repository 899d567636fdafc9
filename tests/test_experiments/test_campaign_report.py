# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What a campaign's report says, of figures made by hand."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from reducenet_mm.experiments.campaign.report import (
    markdown,
    table_rows,
    write_report,
)
from reducenet_mm.experiments.campaign.report_notes import notes
from reducenet_mm.experiments.estimates import estimate

from .campaign_content import campaign_content


@pytest.fixture
def content() -> dict[str, Any]:
    return campaign_content()


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


def test_it_says_which_verdicts_validation_does_not_confirm(
    content: dict[str, Any],
) -> None:
    def said() -> list[str]:
        return [one for one in notes(content) if 'By validation' in one]

    assert said() == []  # none was validated
    for one in content['comparisons']:
        one['validation'] = dict(
            difference=one['difference'], verdict=one['verdict']
        )
    assert said() == [
        'By validation accuracy, 0 of 3 verdicts would be others.'
    ]
    first, second, third = content['comparisons']
    # 0.1, 0.2, 0.3, 0.4, 0.5: margin 2.776 x 0.1581 / sqrt(5).
    found = asdict(estimate([0.1, 0.2, 0.3, 0.4, 0.5]))
    second['validation'] = dict(difference=found, verdict='better')
    third['validation'] = dict(difference=None, verdict=None)
    assert said() == [
        'By validation accuracy, 1 of 2 verdicts would be others: restart to '
        'plain +0.30 [0.10, 0.50] better.'
    ]
    first['verdict'] = 'too few seeds'
    assert said()[0].startswith('By validation accuracy, 1 of 1 verdicts')


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
    (tmp_path / 'campaign.svg').write_text('of results that are gone')
    write_report(content, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        'report.json',
        'report.md',
    }
    assert table_rows(content)[2][1:5] == ('-', '0', 'to plain', '-')
