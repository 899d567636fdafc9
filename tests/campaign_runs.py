# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What the committed runs of a campaign give, by numpy and scipy alone.

Nothing of the package is used, so that a mistake in its statistics would be
seen.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

Record = dict[str, Any]
Values = dict[str, dict[int, float]]
Numbers = tuple[int, float, float | None, float | None, float | None]


def tested(folder: Path) -> list[Record]:
    """Return all cells that met the test set, whatever became of them."""
    lines = (folder / 'results.jsonl').read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [one for one in records if one.get('test')]


def finished(folder: Path) -> list[Record]:
    """Return those of the last config that each arm and seed has had."""
    records = tested(folder)
    last = {(one['arm'], one['seed']): one['hash'] for one in records}
    return [
        one for one in records if one['hash'] == last[one['arm'], one['seed']]
    ]


def changed(folder: Path) -> dict[str, float]:
    """Return how far apart those trainings of a cell ended that differ."""
    lines = (folder / 'results.jsonl').read_text().splitlines()
    records = [json.loads(line) for line in lines]
    found = {}
    for cell in finished(folder):
        of_cell = [r for r in records if r['hash'] == cell['hash']]
        curves = [
            r['validation'] for r in of_cell if r['status'] == 'finished'
        ]
        apart = np.ptp(np.array(curves)[..., 1], axis=0)
        if apart.any():
            found[f'{cell["arm"]} seed {cell["seed"]}'] = apart[-1]
    return found


def by_arm(folder: Path, metric: str) -> Values:
    values: Values = {}
    for one in finished(folder):
        of_arm = values.setdefault(one['arm'], {})
        of_arm[one['seed']] = one['test'][metric]
    return values


def numbers(values: list[float]) -> Numbers:
    """Return n, mean, sd and the ends of the 95 % t interval."""
    n = len(values)
    if n == 1:
        return 1, values[0], None, None, None
    mean, sd = np.mean(values), np.std(values, ddof=1)
    margin = stats.t.ppf(0.975, df=n - 1) * sd / np.sqrt(n)
    return n, mean, sd, mean - margin, mean + margin


def differences(values: Values, arm: str, control: str) -> list[float]:
    of_arm, of_control = values.get(arm, {}), values.get(control, {})
    return [
        of_arm[s] - of_control[s] for s in sorted(of_arm) if s in of_control
    ]


def same(reported: dict[str, Any] | None, values: list[float]) -> bool:
    if not values:
        return reported is None
    if reported is None:
        return False
    names = ('n', 'mean', 'sd', 'low', 'high')
    pairs = zip((reported[name] for name in names), numbers(values))
    return all(
        found is None if wanted is None else found == pytest.approx(wanted)
        for found, wanted in pairs
    )


def verdict(values: list[float]) -> str:
    n, _, _, low, high = numbers(values)
    if n < 5:
        return 'too few seeds'
    if low <= 0 <= high:
        return 'inconclusive'
    return 'better' if low > 0 else 'worse'


def interval(values: list[float]) -> str:
    _, mean, _, low, high = numbers(values)
    text = f'{mean:+.2f}'
    return text if low is None else f'{text} [{low:.2f}, {high:.2f}]'
