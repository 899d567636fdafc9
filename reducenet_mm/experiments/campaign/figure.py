# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The picture of a campaign: each arm's seeds and difference to its control.

One row for each arm; arms of the same training cost stand under one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..estimates import LEAST_SEEDS, interval_text
from ..figures import CONTROLS, INK, STUDENTS, STYLE, as_svg, groups
from ..text import amount

ARM, CONTROL = STUDENTS[0], CONTROLS[0]
FAINT_INK = '#6b7280'
ROW_HEIGHT = 0.24
"""Inches of the figure for each row."""
MARGINS = 1.2
"""Inches of it above and below the rows."""
FAR = 3.0
"""Points from the median within which no mean is off an axis."""

Item = Mapping[str, Any]


def campaign_figure(content: Mapping[str, Any]) -> str:
    """Draw each arm's accuracy and its difference to its control.

    On the left the mean, its interval and the seeds as small points below
    it, on the right the paired difference to the arm's control and its
    interval, where the report's table has one. Arms of about the same
    training cost are a group with a heading, cheapest first, inside it in
    the order of the table; arms without a result are left out. A mean far
    from all others is written at the edge instead of stretching the axis.

    Args:
        content: The content of ``report.json``.
    """
    arms = [arm for arm in content['arms'] if arm['accuracy'] is not None]
    compared = _compared(content)
    controls = {one['control'] for one in compared.values()}
    rows = _rows(arms)
    inches = ROW_HEIGHT * len(rows) + MARGINS
    with rc_context({**STYLE, 'svg.hashsalt': 'campaign'}):
        figure = Figure(figsize=(11, inches), layout='constrained')
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        for axes in (left, right):
            _prepare(axes, rows)
        _label_rows(left, rows)
        _set_limits(left, [_extent(arm['accuracy'], arm) for arm in arms])
        differences = [one['difference'] for one in compared.values()]
        _set_limits(right, [_extent(one) for one in differences], [0.0])
        if compared:
            right.axvline(0, color=INK, linewidth=0.8)
        for y, row in enumerate(rows):
            if isinstance(row, str):
                continue
            color = CONTROL if row['name'] in controls else ARM
            _draw_accuracy(left, row, y, color)
            if row['name'] in compared:
                _draw_difference(right, compared[row['name']], y, color)
        left.set_xlabel(
            f'{content["compared"]} accuracy, %: mean, 95 % interval, seeds\n'
            f'(blue: a control; hollow: fewer than {LEAST_SEEDS} seeds)\n'
            'by training multiply-adds, all arms needed'
        )
        right.set_xlabel(
            'difference to control, points:\npaired by seed, 95 % interval,\n'
            'not adjusted for their number'
        )
        return as_svg(figure)


def main_comparisons(content: Mapping[str, Any]) -> dict[str, Item]:
    """Return, by arm, its first comparison that was planned."""
    first: dict[str, Item] = {}
    for comparison in content['comparisons']:
        if not comparison['later']:
            first.setdefault(comparison['arm'], comparison)
    return first


def _compared(content: Mapping[str, Any]) -> dict[str, Item]:
    """Return, by arm, the comparisons of the table that have a result."""
    return {
        name: comparison
        for name, comparison in main_comparisons(content).items()
        if comparison['difference'] is not None
    }


def _rows(arms: Sequence[Item]) -> list[Item | str]:
    """Return arms, grouped by cost, each group after its heading."""
    costs = [arm['total_multiply_adds'] for arm in arms]
    rows: list[Item | str] = []
    for group in sorted(groups(costs), key=lambda group: costs[group[0]]):
        ends = [amount(end([costs[i] for i in group])) for end in (min, max)]
        rows.append(f'{" to ".join(dict.fromkeys(ends))} multiply-adds')
        rows += [arms[index] for index in group]
    return rows


def _prepare(axes: Axes, rows: Sequence[Item | str]) -> None:
    """Set up the rows, first one on top, with a line above each group."""
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines['left'].set_visible(False)
    axes.tick_params(axis='x', labeltop=True)
    for y, row in enumerate(rows):
        if isinstance(row, str):
            axes.axhline(y - 0.5, color='#d1d5db', linewidth=0.8)


def _label_rows(axes: Axes, rows: Sequence[Item | str]) -> None:
    """Write names and means of arms, and the cost of each group."""
    labels = [
        row
        if isinstance(row, str)
        else f'{row["name"]}  {row["accuracy"]["mean"]:.2f}'
        for row in rows
    ]
    axes.set_yticks(range(len(rows)), labels)
    axes.grid(visible=False, axis='y')
    axes.tick_params(axis='y', length=0)
    for row, label in zip(rows, axes.get_yticklabels(), strict=True):
        if isinstance(row, str):
            label.set_color(FAINT_INK)
            label.set_fontstyle('italic')


def _extent(estimate: Item, arm: Item | None = None) -> list[float]:
    """Return a mean and what an axis should show beside it.

    That is the interval of enough seeds, and an arm's seeds. The interval
    of two seeds can be a hundred points wide: it is cut off, without a cap,
    where the axis ends.
    """
    values = [] if arm is None else list(arm['values'].values())
    if estimate['n'] >= LEAST_SEEDS:
        values += [estimate['low'], estimate['high']]
    return [estimate['mean'], *values]


def _set_limits(
    axes: Axes,
    extents: Sequence[Sequence[float]],
    always: Sequence[float] = (),
) -> None:
    """Show all extents but those of means that are far from the others."""
    if not extents:
        axes.set_xticks([])
        return
    centre = median(mean for mean, *_ in extents)
    usual = median(abs(mean - centre) for mean, *_ in extents)
    reach = max(FAR, 8 * usual)
    near = [one for one in extents if abs(one[0] - centre) <= reach]
    ends = [*always, *(end for extent in near for end in extent)]
    margin = max(0.04 * (max(ends) - min(ends)), 0.1)
    axes.set_xlim(min(ends) - margin, max(ends) + margin)


def _draw_accuracy(axes: Axes, arm: Item, y: float, color: str) -> None:
    text = interval_text(arm['accuracy']).removeprefix('+')
    if not _draw_interval(axes, arm['accuracy'], y, color, text):
        return
    values = list(arm['values'].values())
    axes.plot(
        values,
        [y + 0.28] * len(values),
        linestyle='',
        marker='.',
        markersize=4,
        markeredgewidth=0,
        color=FAINT_INK,
    )


def _draw_difference(
    axes: Axes, comparison: Item, y: float, color: str
) -> None:
    difference = comparison['difference']
    _draw_interval(axes, difference, y, color, interval_text(difference))
    text = f'to {comparison["control"]}'
    if not comparison['matched']:
        text += f' ({comparison["cost_ratio"]:.2f} times its cost)'
    axes.annotate(
        text,
        xy=(1.01, y),
        xycoords=axes.get_yaxis_transform(),
        color=FAINT_INK,
        va='center',
        annotation_clip=False,
    )


def _draw_interval(
    axes: Axes, estimate: Item, y: float, color: str, text: str
) -> bool:
    """Draw a mean and its interval; return whether it is on the axis.

    If not, or if it is within the margin that nothing near is in, ``text`` is
    written at the edge.
    """
    mean = estimate['mean']
    low, high = axes.get_xlim()
    edge = 0.02 * (high - low)
    if not low + edge <= mean <= high - edge:
        below = mean < low + edge
        axes.annotate(
            f'◂ {text}' if below else f'{text} ▸',
            xy=(low if below else high, y),
            ha='left' if below else 'right',
            va='center',
            color=color,
        )
        return False
    ends = [
        mean if estimate[end] is None else estimate[end]
        for end in ('low', 'high')
    ]
    axes.errorbar(
        mean,
        y,
        xerr=[[mean - ends[0]], [ends[1] - mean]],
        color=color,
        marker='o',
        markersize=5,
        markerfacecolor='white' if estimate['n'] < LEAST_SEEDS else color,
        elinewidth=1.2,
        capsize=2.5,
    )
    return True
