# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What a run has logged: the scalars that MMEngine writes as JSON lines."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TAIL_BYTES = 65_536
NOT_METRICS = {'data_time', 'step', 'time'}
"""What MMEngine logs beside the metrics of a validation."""


@dataclass(frozen=True)
class Latest:
    """Where a run is.

    Attributes:
        epoch: Epoch in training, from 1; 0 before the first log line.
        iteration: Optimizer steps done.
        loss: The last logged training loss.
        accuracy: The last logged validation metric.
    """

    epoch: int = 0
    iteration: int = 0
    loss: float | None = None
    accuracy: float | None = None


def scalar_files(run_dir: Path) -> list[Path]:
    """Return a run's scalar files, one per session, oldest first."""
    return sorted(run_dir.glob('*/vis_data/scalars.json'))


def validation_curve(run_dir: Path, metric: str) -> list[tuple[int, float]]:
    """Return the validation metric by epoch.

    An epoch that was trained again after an interruption counts once, as it
    was the last time. A student's curve starts at epoch 0 with what the
    teacher is without its branches.

    Args:
        run_dir: Work dir of a training run.
        metric: Name of the logged metric.

    Returns:
        Pairs of epoch (0: before training) and value, by epoch.
    """
    curve: dict[int, float] = {}
    for row in _all_rows(run_dir):
        if metric in row and 'loss' not in row:
            curve[int(row['step'])] = float(row[metric])
    switch = drop_shock(run_dir, metric)
    start = switch.get('student_recalibrated', switch.get('student'))
    if start is not None:
        curve[0] = start
    return sorted(curve.items())


def validated_metrics(run_dir: Path) -> list[str]:
    """Return the names of all metrics that validations have logged.

    What is measured at the switch to the student is no validation.
    """
    rows = (row for row in _all_rows(run_dir) if 'loss' not in row)
    keys = {key for row in rows for key in row if key not in NOT_METRICS}
    return sorted(key for key in keys if not key.startswith('switch/'))


def drop_shock(run_dir: Path, metric: str) -> dict[str, float]:
    """Return the validation metric around the switch to the student.

    Returns:
        Values of 'teacher', 'student' and, where norm statistics are
        recalibrated, 'student_recalibrated'; empty for other runs.
    """
    found: dict[str, float] = {}
    for row in _all_rows(run_dir):
        for network in ('teacher', 'student', 'student_recalibrated'):
            value = row.get(f'switch/{network}/{metric}')
            if value is not None:
                found[network] = float(value)
    return found


def latest(run_dir: Path, metric: str | None = None) -> Latest:
    """Return where the newest session of a run is.

    Args:
        run_dir: Its work dir.
        metric: Name of the validation metric; None leaves ``accuracy`` out.
    """
    files = scalar_files(run_dir)
    if not files:
        return Latest()
    with open(files[-1], 'rb') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        rows = _rows(file.read())
    training: dict[str, Any] = next(
        (r for r in reversed(rows) if 'loss' in r), {}
    )
    validation: dict[str, Any] = next(
        (r for r in reversed(rows) if metric in r), {}
    )
    return Latest(
        epoch=int(training.get('epoch', 0)),
        iteration=int(training.get('step', 0)),
        loss=training.get('loss'),
        accuracy=None if metric is None else validation.get(metric),
    )


def _all_rows(run_dir: Path) -> list[dict[str, Any]]:
    files = scalar_files(run_dir)
    return [row for file in files for row in _rows(file.read_bytes())]


def _rows(content: bytes) -> list[dict[str, Any]]:
    """Parse JSON lines; lines cut off by a kill are left out."""
    rows = []
    for line in content.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
