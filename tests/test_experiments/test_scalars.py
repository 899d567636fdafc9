# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Curves and progress from logs such as MMEngine writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reducenet_mm.experiments.scalars import (
    Latest,
    drop_shock,
    latest,
    validated_metrics,
    validation_curve,
)

METRIC = 'accuracy/top1'


def log(run: Path, session: str, *rows: dict[str, Any], cut: str = '') -> None:
    folder = run / session / 'vis_data'
    folder.mkdir(parents=True)
    text = ''.join(f'{json.dumps(row)}\n' for row in rows)
    (folder / 'scalars.json').write_text(text + cut)


def train(epoch: int, step: int, loss: float) -> dict[str, Any]:
    return dict(loss=loss, lr=0.1, epoch=epoch, step=step)


def val(epoch: int, accuracy: float) -> dict[str, Any]:
    return {METRIC: accuracy, 'time': 0.1, 'step': epoch}


def test_an_epoch_trained_twice_counts_as_the_last_time(
    tmp_path: Path,
) -> None:
    log(tmp_path, '2', train(2, 20, 0.5), val(2, 70.0), val(3, 80.0))
    log(tmp_path, '1', val(1, 50.0), val(2, 60.0), cut='{"accuracy/to')
    curve = validation_curve(tmp_path, METRIC)
    assert curve == [(1, 50.0), (2, 70.0), (3, 80.0)]


def test_a_students_curve_starts_with_the_drop(tmp_path: Path) -> None:
    switch = {f'switch/teacher/{METRIC}': 98.0, 'step': 0}
    switch[f'switch/student/{METRIC}'] = 12.0
    log(tmp_path / 'a', '1', switch, val(1, 90.0))
    assert validation_curve(tmp_path / 'a', METRIC) == [(0, 12.0), (1, 90.0)]
    assert drop_shock(tmp_path / 'a', METRIC) == dict(
        teacher=98.0, student=12.0
    )
    recalibrated = {f'switch/student_recalibrated/{METRIC}': 55.0}
    log(tmp_path / 'b', '1', {**switch, **recalibrated})
    assert validation_curve(tmp_path / 'b', METRIC) == [(0, 55.0)]
    assert drop_shock(tmp_path / 'none', METRIC) == {}
    assert validated_metrics(tmp_path / 'a') == [METRIC]
    assert validated_metrics(tmp_path / 'b') == []  # the switch alone


def test_progress_is_that_of_the_newest_session(tmp_path: Path) -> None:
    assert latest(tmp_path, METRIC) == Latest()
    log(tmp_path, '1', train(9, 90, 0.1), val(9, 99.0))
    log(tmp_path, '2', train(4, 40, 0.5), val(4, 70.0), train(5, 45, 0.4))
    assert latest(tmp_path, METRIC) == Latest(5, 45, 0.4, 70.0)
