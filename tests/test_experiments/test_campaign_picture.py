# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What a campaign's report draws, of figures made by hand."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import pytest
from matplotlib.figure import Figure

from reducenet_mm.experiments.campaign.figure import (
    _draw_interval,
    campaign_figure,
)
from reducenet_mm.experiments.estimates import estimate

from .campaign_content import campaign_content


@pytest.fixture
def content() -> dict[str, Any]:
    return campaign_content()


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


@pytest.mark.parametrize(
    ('mean', 'on_axis'), [(1.9, False), (2.1, True), (98.1, False)]
)
def test_a_mean_in_the_margin_is_written_too(
    mean: float, on_axis: bool
) -> None:
    axes = Figure().subplots()
    axes.set_xlim(0, 100)
    one = asdict(estimate([mean] * 5))
    assert _draw_interval(axes, one, 0, 'black', 'text') == on_axis
    assert [text.get_text().strip('◂▸ ') for text in axes.texts] == (
        [] if on_axis else ['text']
    )


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
