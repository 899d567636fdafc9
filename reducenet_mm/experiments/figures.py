# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The report's pictures, as SVG text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation, Transform
from scipy.optimize import isotonic_regression

from .text import UNITS

TEACHER, PLAIN = '#b45309', '#78716c'
STUDENTS = ('#0f766e', '#65a30d', '#14b8a6', '#166534', '#a3a310')
CONTROLS = ('#2563eb', '#9333ea', '#be123c', '#4b5563')
INK, FAINT = '#1f2937', '#e5e7eb'

LABEL_WIDTH = 0.3
"""Share of an axis that a label beside a point takes."""

STYLE: dict[Any, Any] = {
    'axes.axisbelow': True,
    'axes.edgecolor': '#9ca3af',
    'axes.grid': True,
    'axes.labelcolor': INK,
    'axes.spines.right': False,
    'axes.spines.top': False,
    'axes.titlelocation': 'left',
    'axes.titlesize': 11,
    'font.size': 10,
    'grid.color': FAINT,
    'svg.fonttype': 'none',
    'text.color': INK,
    'xtick.color': INK,
    'ytick.color': INK,
}


def colors(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return one colour for each run, and for its network, by name."""
    shades = dict(
        teacher=(TEACHER,),
        plain=(PLAIN,),
        student=STUDENTS,
        control=CONTROLS,
    )
    chosen: dict[str, str] = {}
    met = dict.fromkeys(shades, 0)
    for run in runs:
        role = run['role']
        chosen[run['name']] = shades[role][met[role] % len(shades[role])]
        met[role] += 1
    return chosen


def validation_figure(content: Mapping[str, Any]) -> str:
    """Draw validation accuracy over cumulative training cost.

    Stages follow one another; each control starts at zero cost. On the
    right, the same without what happens far below the end.
    """
    lines = validation_lines(content['runs'])
    largest = max((x for line in lines.values() for x, _ in line), default=0)
    factor, unit = unit_of(largest)
    with rc_context({**STYLE, 'svg.hashsalt': 'validation'}):
        figure = Figure(figsize=(10, 4), layout='constrained')
        whole, zoomed = figure.subplots(1, 2, width_ratios=(1, 1.4))
        for axes in (whole, zoomed):
            _draw_lines(axes, content, lines, factor)
            axes.set_xlabel(f'cumulative training multiply-adds, {unit}')
        whole.set_ylabel('validation accuracy, %')
        whole.set_title('Whole range')
        zoomed.set_title('The same, near the end of training')
        zoomed.set_ylim(*_zoom(lines.values()))
        handles, names = whole.get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc='outside upper left',
            ncols=max(1, len(names)),
            frameon=False,
        )
        return as_svg(figure)


def validation_lines(
    runs: Sequence[Mapping[str, Any]],
) -> dict[str, list[tuple[float, float]]]:
    """Return (cumulative training multiply-adds, accuracy) by run."""
    lines = {}
    spent = 0.0
    for run in runs:
        start = 0.0 if run['role'] == 'control' else spent
        per_epoch = run['multiply_adds'] / run['epochs']
        points = [
            (start + epoch * per_epoch, accuracy)
            for epoch, accuracy in run['validation']
        ]
        if points:
            lines[run['name']] = points
        if run['role'] != 'control':
            spent += run['multiply_adds']
    return lines


def tradeoff_figure(content: Mapping[str, Any]) -> str:
    """Draw test accuracy against inference cost and training cost."""
    networks, color = content['networks'], colors(content['runs'])
    with rc_context({**STYLE, 'svg.hashsalt': 'tradeoff'}):
        figure = Figure(figsize=(10, 3.8), layout='constrained')
        left, right = figure.subplots(1, 2, sharey=True)
        _draw_points(left, networks, color, 'multiply_adds')
        left.set_title('Cost of one image')
        left.set_ylabel('test accuracy, %')
        left.set_xlabel('multiply-adds of one image')
        _draw_points(right, networks, color, 'training_multiply_adds')
        right.set_title('Cost of training')
        right.set_xlabel('training multiply-adds, all stages needed')
        return as_svg(figure)


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Move values apart, as little as possible, to a distance of ``gap``.

    Values already far enough from all others stay where they are.

    Args:
        values: Positions, in any order.
        gap: Wanted distance of neighbours.

    Returns:
        New positions in the order of ``values``.
    """
    order = np.argsort(values, kind='stable')
    room = gap * np.arange(len(order))
    moved = np.empty(len(order))
    moved[order] = room + isotonic_regression(np.take(values, order) - room).x
    return moved.tolist()


def _draw_lines(
    axes: Axes,
    content: Mapping[str, Any],
    lines: Mapping[str, Sequence[tuple[float, float]]],
    factor: float,
) -> None:
    color = colors(content['runs'])
    roles = {run['name']: run['role'] for run in content['runs']}
    for name, points in lines.items():
        is_control = roles[name] == 'control'
        axes.plot(
            [x / factor for x, _ in points],
            [y for _, y in points],
            color=color[name],
            linestyle='--' if is_control else '-',
            linewidth=1.6 if is_control else 2.4,
            marker='o',
            markersize=3,
            label=name,
        )
    spent = 0.0
    for run in content['runs']:
        if run['role'] == 'student':
            axes.axvline(spent / factor, color='#9ca3af', linestyle=':')
        spent += run['multiply_adds']
    axes.set_xlim(left=0)


def _draw_points(
    axes: Axes,
    networks: Sequence[Mapping[str, Any]],
    color: Mapping[str, str],
    key: str,
) -> None:
    factor, unit = unit_of(max(network[key] for network in networks))
    x_values = [network[key] / factor for network in networks]
    y_values = [network['accuracy'] for network in networks]
    errors = [network['standard_error'] for network in networks]
    low = min(y - e for y, e in zip(y_values, errors, strict=True))
    high = max(y + e for y, e in zip(y_values, errors, strict=True))
    margin = max(0.15 * (high - low), 0.1)
    limit = 1.45 * max(x_values)
    axes.set_ylim(low - margin, min(high + margin, 100.5))
    axes.set_xlim(0, limit)
    axes.xaxis.set_major_formatter(lambda x, _: f'{x:g} {unit}' if x else '0')
    gap = 0.08 * (high - low + 2 * margin)
    for group in groups(x_values):
        x = x_values[group[0]]
        further = [other for other in x_values if other > 1.02 * x]
        to_right = min([limit, *further]) - x > LABEL_WIDTH * limit
        label_y = spread([y_values[index] for index in group], gap)
        for place, index in enumerate(group):
            offset = 9 * (place - (len(group) - 1) / 2)
            edge = 9 * (len(group) - 1) / 2 + 12
            _draw_point(
                axes,
                networks[index],
                color[networks[index]['name']],
                (x_values[index], offset),
                label_y[place],
                edge if to_right else -edge,
            )


def _draw_point(
    axes: Axes,
    network: Mapping[str, Any],
    shade: str,
    position: tuple[float, float],
    label_y: float,
    label_offset: float,
) -> None:
    """Draw a network, ``position[1]`` points beside its true place."""
    x, offset = position
    accuracy = network['accuracy']
    axes.errorbar(
        x,
        accuracy,
        yerr=network['standard_error'],
        color=shade,
        marker='D' if network['role'] == 'control' else 'o',
        markersize=7,
        elinewidth=1,
        capsize=3,
        transform=_beside(axes, offset),
    )
    axes.annotate(
        f'{network["name"]}  {accuracy:.2f}',
        xy=(x, accuracy),
        xycoords=_beside(axes, offset),
        xytext=(x, label_y),
        textcoords=_beside(axes, label_offset),
        color=shade,
        ha='left' if label_offset > 0 else 'right',
        va='center',
        arrowprops=dict(arrowstyle='-', color=shade, linewidth=0.6),
    )


def _beside(axes: Axes, points: float) -> Transform:
    """Return data coordinates moved right by ``points``."""
    figure: Any = axes.get_figure()
    return axes.transData + ScaledTranslation(
        points / 72, 0, figure.dpi_scale_trans
    )


def groups(values: Sequence[float]) -> list[list[int]]:
    """Return the indices of values that are within 2 % of one another."""
    found: list[list[int]] = []
    for index, value in enumerate(values):
        for group in found:
            near = values[group[0]]
            if abs(near - value) <= 0.02 * max(near, value):
                group.append(index)
                break
        else:
            found.append([index])
    return found


def _zoom(
    lines: Iterable[Sequence[tuple[float, float]]],
) -> tuple[float, float]:
    """Return limits that show the last half of every line."""
    late = [y for line in lines for _, y in line[len(line) // 2 :]]
    late = late or [0.0, 100.0]  # nothing was validated
    low, high = min(late), max(late)
    margin = max(0.08 * (high - low), 0.2)
    return low - margin, min(high + margin, 100.5)


def unit_of(largest: float) -> tuple[float, str]:
    """Return a decimal factor and its name, 1e9 and 'G', for an axis."""
    for factor, unit in UNITS:
        if largest >= factor:
            return factor, unit
    return 1.0, ''


def as_svg(figure: Figure) -> str:
    """Return a figure as the text of an SVG element."""
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', metadata={'Date': None})
    text = buffer.getvalue()
    return text[text.index('<svg') :]
