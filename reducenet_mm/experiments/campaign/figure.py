# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The picture of a campaign: accuracy against training cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..figures import STYLE, as_svg, groups, spread, unit_of

COLORS = (
    '#0f766e',
    '#b45309',
    '#2563eb',
    '#9333ea',
    '#be123c',
    '#4b5563',
    '#15803d',
    '#a16207',
)
MARKERS = ('o', 'D', 's', '^', 'v', 'P')
LINE_HEIGHT = 0.3
"""Inches of the figure for each name."""
MARGINS = 1.2
"""Inches of it above and below the axes."""


def campaign_figure(content: Mapping[str, Any]) -> str:
    """Draw each arm's accuracy, its interval and its training cost.

    Names stand on the right, in the order of accuracy, a thin line leading
    to each arm's point. Arms of the same cost stand side by side.

    Args:
        content: The content of ``report.json``.
    """
    arms = [arm for arm in content['arms'] if arm['accuracy'] is not None]
    costs = [arm['total_multiply_adds'] for arm in arms]
    factor, unit = unit_of(max(costs))
    xs = _side_by_side([cost / factor for cost in costs])
    inches = max(4.0, LINE_HEIGHT * len(arms) + MARGINS)
    with rc_context({**STYLE, 'svg.hashsalt': 'campaign'}):
        figure = Figure(figsize=(10, inches), layout='constrained')
        axes = figure.subplots()
        low, high = _limits(arms)
        axes.set_xlim(0, 1.06 * max(xs))
        axes.set_ylim(low, high)
        label_ys = spread(
            [arm['accuracy']['mean'] for arm in arms],
            0.8 * LINE_HEIGHT / (inches - MARGINS) * (high - low),
        )
        above = max(0.0, max(label_ys) - high)
        for index, arm in enumerate(arms):
            _draw_point(axes, arm, xs[index], index)
            label_at = 1.1 * max(xs), label_ys[index] - above
            _draw_label(axes, arm, xs[index], index, label_at)
        axes.set_ylabel(f'{content["compared"]} accuracy, % (95 % interval)')
        axes.set_xlabel(f'training multiply-adds, all arms needed, {unit}')
        return as_svg(figure)


def _draw_point(
    axes: Axes, arm: Mapping[str, Any], x: float, index: int
) -> None:
    mean = arm['accuracy']['mean']
    low, high = _ends(arm['accuracy'])
    axes.errorbar(
        x,
        mean,
        yerr=[[mean - low], [high - mean]],
        color=COLORS[index % len(COLORS)],
        marker=MARKERS[index % len(MARKERS)],
        markersize=6,
        elinewidth=1,
        capsize=3,
    )


def _draw_label(
    axes: Axes,
    arm: Mapping[str, Any],
    x: float,
    index: int,
    label_at: tuple[float, float],
) -> None:
    color = COLORS[index % len(COLORS)]
    mean = arm['accuracy']['mean']
    line = dict(arrowstyle='-', color=color, linewidth=0.5, alpha=0.6)
    axes.annotate(
        f'{arm["name"]}  {mean:.2f}',
        xy=(x, mean),
        xytext=label_at,
        color=color,
        va='center',
        annotation_clip=False,
        arrowprops=dict(line, relpos=(0, 0.5)),
    )


def _limits(arms: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the ends of the vertical axis: all intervals and a margin."""
    ends = [_ends(arm['accuracy']) for arm in arms]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    margin = max(0.06 * (high - low), 0.1)
    return low - margin, high + margin


def _ends(accuracy: Mapping[str, Any]) -> tuple[float, float]:
    """Return the ends of an interval; the mean itself if there is none."""
    if accuracy['low'] is None:
        return accuracy['mean'], accuracy['mean']
    return accuracy['low'], accuracy['high']


def _side_by_side(costs: list[float]) -> list[float]:
    """Move arms of about the same cost apart, by 1.2 % of the axis."""
    step = 0.012 * max(costs)
    places = list(costs)
    for group in groups(costs):
        for place, index in enumerate(group):
            places[index] += step * (place - (len(group) - 1) / 2)
    return places
