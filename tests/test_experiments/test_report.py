# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A report says what its figures say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reducenet_mm.experiments.figures import (
    colors,
    spread,
    validation_lines,
)
from reducenet_mm.experiments.pipeline.reading import plain_reading
from reducenet_mm.experiments.pipeline.report import (
    notes,
    table_rows,
    write_report,
)
from reducenet_mm.experiments.pipeline.results import standard_error
from reducenet_mm.experiments.text import amount


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (7, '7'),
        (999.6, '1 k'),
        (763_520, '764 k'),
        (3155, '3.16 k'),  # which 3155 / 1000 falls short of
        (40_813_184, '40.8 M'),
        (999_600_000, '1 G'),
        (4.3e14, '430 T'),
        (1.5e18, '1.5e+03 P'),
    ],
)
def test_amounts(value: float, text: str) -> None:
    assert amount(value) == text


def test_table_rows(content: dict[str, Any]) -> None:
    rows = table_rows(content)
    assert rows[1] == (
        'student (student)',
        '93.00',
        '1,000',
        '10 k',
        '5 G (4 + 2)',
        '1.23 [1.1, 1.5]',
        '1234 [1000, 2000]',
    )
    assert rows[2][4:] == ('4 G (4)', '-', '-')


def test_curves_lie_over_cumulative_cost(content: dict[str, Any]) -> None:
    lines = validation_lines(content['runs'])
    assert lines['teacher'] == [(2e9, 80.0), (4e9, 96.0)]
    assert lines['student'] == [(4e9, 11.0), (4.5e9, 90.0), (5e9, 93.5)]
    assert lines['plain'] == [(2.5e9, 91.0), (5e9, 94.5)]


def test_labels_are_moved_apart_in_order() -> None:
    assert spread([5.0, 1.0, 1.1], 1.0) == pytest.approx([5.0, 0.55, 1.55])
    moved = spread([3.0, 3.0, 2.9], 0.5)
    assert moved[2] < moved[0] < moved[1]
    assert sum(moved) == pytest.approx(8.9)


def test_reading_when_a_control_wins(content: dict[str, Any]) -> None:
    content['networks'][2]['standard_error'] = 0.1
    content['networks'][1]['standard_error'] = 0.3
    text = plain_reading(content)
    assert '93.00 % on the 400 test images, 2.00 points below' in text
    assert '4.0 times fewer multiply-adds' in text
    assert (
        'from 96.00 % to 11.00 %; the student stage ended at 93.50 %' in text
    )
    assert '94.00 % in one go (plain: 1.004 times' in text
    assert '1.00 points above the student)' in text
    assert '92.50 % with a learning-rate restart' in text
    assert '0.50 points below the student)' in text
    assert 'a control wins: plain' in text
    assert '+1.00 points to the best control' in text
    assert 'one seed (3), which says nothing about significance' in text
    assert 'about 0.30 points' in text
    assert text.endswith('Interrupted and continued: plain_restart.')


def test_reading_when_the_student_wins(content: dict[str, Any]) -> None:
    content['networks'][1]['accuracy'] = 95.5
    content['networks'][0]['accuracy'] = 96.5
    text = plain_reading(content)
    assert 'the student is ahead of every control' in text
    assert 'a control wins' not in text
    assert 'clearly better' not in text
    assert 'significance' in text


@pytest.mark.parametrize(
    ('student', 'level'), [(92.57, False), (92.59, True), (95.41, True)]
)
def test_two_standard_errors_of_a_difference_decide(
    content: dict[str, Any], student: float, level: bool
) -> None:
    """Both errors are 0.5, so it is 1.41 points around the control's 94."""
    content['networks'][1]['accuracy'] = student
    text = plain_reading(content)
    assert ('are level' in text) == level
    assert ('a control wins' in text) != level
    assert ('within 1.41 points' in text) == level


def test_reading_when_level_or_without_controls(
    content: dict[str, Any],
) -> None:
    content['networks'][1]['accuracy'] = 94.0
    text = plain_reading(content)
    assert 'the student and plain are level' in text
    assert 'as much as the student)' in text
    content['networks'] = content['networks'][:2]
    text = plain_reading(content)
    assert 'No control was run' in text
    assert 'significance' in text


def test_standard_error_of_a_share() -> None:
    assert standard_error(90.0, 400) == pytest.approx(1.5)


def test_the_files_hold_the_figures(
    content: dict[str, Any], tmp_path: Path
) -> None:
    write_report(content, tmp_path)
    assert json.loads((tmp_path / 'report.json').read_text()) == content
    markdown = (tmp_path / 'report.md').read_text()
    page = (tmp_path / 'report.html').read_text()
    for row in table_rows(content):
        assert f'| {" | ".join(row)} |' in markdown
        assert all(f'>{cell}</td>' in page for cell in row[1:])
    assert page.count('<svg') == 2
    for label in ('validation accuracy, %', 'test accuracy, %'):
        assert label in page
    for link in ('src=', '@import', 'url(http', '<link', '<script'):
        assert link not in page


def test_a_report_says_by_what_its_networks_were_trained(
    content: dict[str, Any], tmp_path: Path
) -> None:
    older = dict(python='3.10', reducenet_mm='0.1.0')
    content['trained_by'] = [
        dict(commit='abc', dirty=True, packages=older),
        dict(commit='def', dirty=False, packages=content['versions']),
        None,
    ]
    write_report(content, tmp_path)
    wanted = (
        'python 3.11, reducenet_mm 0.1.0; trained by abc with uncommitted '
        'changes (python 3.10, reducenet_mm 0.1.0); trained by def; trained '
        'by unknown'
    )
    for name in ('report.md', 'report.html'):
        assert wanted in (tmp_path / name).read_text()


def test_names_are_escaped(content: dict[str, Any], tmp_path: Path) -> None:
    content['reading'] = '<script>alert(1)</script>'
    write_report(content, tmp_path)
    assert '<script' not in (tmp_path / 'report.html').read_text()


def test_a_report_is_the_same_the_second_time(
    content: dict[str, Any], tmp_path: Path
) -> None:
    pages = []
    for _ in range(2):
        write_report(content, tmp_path)
        pages.append((tmp_path / 'report.html').read_text())
    assert pages[0] == pages[1]


def test_a_second_look_at_the_test_set_is_confessed(
    content: dict[str, Any],
) -> None:
    assert 'once, after all training.' in notes(content)[0]
    assert 'unseen' not in notes(content)[0]
    content['networks'][2]['test_evaluations'] = 3
    assert (
        'plain 3 times; the test set is no longer unseen'
        in (notes(content)[0])
    )


def test_validation_on_the_test_images_is_confessed(
    content: dict[str, Any],
) -> None:
    content['validated_on_test'] = True
    assert 'These are the validation images too' in notes(content)[0]


def test_a_report_without_validation_has_empty_curves(
    content: dict[str, Any], tmp_path: Path
) -> None:
    for run in content['runs']:
        run['validation'] = []
    content['drop_shock'] = {}
    content['reading'] = plain_reading(content)
    write_report(content, tmp_path)
    assert '<svg' in (tmp_path / 'report.html').read_text()


def add_stages(content: dict[str, Any], until: dict[str, Any] | None) -> None:
    """Make it a pipeline whose third student stage was skipped."""
    labels = dict(content['runs'][1], name='labels', epochs=1)
    content['runs'].insert(2, labels)
    shared = dict(start=11.0, multiply_adds=1e9, planned_epochs=2)
    first = dict(name='student', accuracy=93.5, gain=None, epochs=2)
    second = dict(name='labels', accuracy=93.0, gain=-0.5, epochs=1)
    content['stages'] = dict(
        until=until,
        teacher=dict(name='teacher', accuracy=96.0),
        students=[
            dict(shared, **first, shipped=True),
            dict(shared, **second, shipped=False),
        ],
        skipped=['<lora>'],
        end='labels lost',
    )


def test_the_stages_are_reported(
    content: dict[str, Any], tmp_path: Path
) -> None:
    until = dict(min_gain=0.2, patience=3, stage_min_gain=None)
    add_stages(content, until)
    content['reading'] = plain_reading(content)
    write_report(content, tmp_path)
    markdown = (tmp_path / 'report.md').read_text()
    page = (tmp_path / 'report.html').read_text()
    assert (
        '| student | 11.00 | 93.50 | - | 2 of 2 | 1 G | shipped |\n'
        '| labels | 11.00 | 93.00 | -0.50 | 1 of 2 | 1 G | ended early |\n'
        '| <lora> | - | - | - | - | - | skipped |\n'
    ) in markdown
    for text in (
        'The teacher (teacher) has 96.00 %.',
        'after 3 validations in a row without a gain of 0.2 points.',
        'The end: labels lost.',
        'all stages that were trained, also those that lost, included',
        'at student 93.50 %, labels 93.00 %; student is the student that is',
        'the first student stage ended at 93.50 %',
    ):
        assert text in markdown
        assert text in page
    assert '&lt;lora&gt;' in page and '<lora>' not in page
    content['stages']['until'] = None
    write_report(content, tmp_path)
    markdown = (tmp_path / 'report.md').read_text()
    assert 'Every stage starts from the one before it.' in markdown


def test_one_student_stage_has_no_table_of_stages(
    content: dict[str, Any], tmp_path: Path
) -> None:
    write_report(content, tmp_path)
    assert 'Student stages' not in (tmp_path / 'report.md').read_text()
    page = (tmp_path / 'report.html').read_text()
    assert 'id="stages"' not in page
    assert 'The student begins at the dotted line' in page


def test_every_stage_has_a_colour_and_its_network_the_same(
    content: dict[str, Any], tmp_path: Path
) -> None:
    add_stages(content, None)
    shades = colors(content['runs'])
    assert len(set(shades.values())) == len(content['runs']) == 5
    content['networks'][1]['name'] = 'labels'
    write_report(content, tmp_path)
    page = (tmp_path / 'report.html').read_text()
    table = page[page.index('id="networks"') :].partition('</table>')[0]
    assert shades['labels'] in table
    assert shades['student'] not in table
