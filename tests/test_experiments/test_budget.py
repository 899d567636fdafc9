# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Budgets in whole epochs, and schedules that really restart."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.optim.scheduler import CosineRestartLR
from mmengine.runner import Runner

from reducenet_mm.experiments.budget import (
    matched_epochs,
    restart_periods,
    schedule_options,
)

PLAIN = 'configs/reducenet/digits/plain8-w16_digits.py'
COSINE = dict(
    type='CosineRestartLR', periods=[5], restart_weights=[1], eta_min=0
)


@pytest.mark.parametrize(
    ('budget', 'per_epoch', 'epochs', 'ratio'),
    [
        (100, 10, 10, 1.0),
        (104, 10, 10, 100 / 104),
        (106, 10, 11, 110 / 106),
        (3, 10, 1, 10 / 3),
    ],
)
def test_epochs_are_rounded_and_the_ratio_is_told(
    budget: float, per_epoch: float, epochs: int, ratio: float
) -> None:
    assert matched_epochs(budget, per_epoch) == (epochs, ratio)


def test_a_scheduler_may_be_a_class_of_a_lazy_config() -> None:
    cfg = Config.fromfile(PLAIN)
    cfg.param_scheduler = dict(COSINE, type=CosineRestartLR)
    assert schedule_options(cfg, [7]) == {
        'train_cfg.max_epochs': 7,
        'param_scheduler.periods': [7],
        'param_scheduler.restart_weights': [1],
    }


def test_a_schedule_with_an_end_reaches_the_new_one() -> None:
    cfg = Config(dict(param_scheduler=[dict(COSINE, begin=1, end=6)]))
    options = schedule_options(cfg, [6, 4])
    assert options['param_scheduler.0.periods'] == [5, 4]
    assert options['param_scheduler.0.end'] == 10


def test_a_budget_must_be_positive() -> None:
    with pytest.raises(ValueError, match='budget=0'):
        matched_epochs(0, 1)


@pytest.mark.parametrize(
    ('epochs', 'before', 'total', 'periods'),
    [
        (190, 0.592, 1.0, [112, 78]),
        (10, 5.0, 10.0, [5, 5]),
        (2, 1.0, 100.0, [1, 1]),
        (2, 99.0, 100.0, [1, 1]),
    ],
)
def test_a_restart_is_where_the_stage_begins(
    epochs: int, before: float, total: float, periods: list[int]
) -> None:
    assert restart_periods(epochs, before, total) == periods


def test_a_restart_needs_two_epochs_and_a_stage_before() -> None:
    with pytest.raises(ValueError, match='at least 2 epochs, got 1'):
        restart_periods(1, 1.0, 2.0)
    with pytest.raises(ValueError, match='with others before it'):
        restart_periods(4, 0.0, 2.0)


def test_options_reach_a_schedule_in_a_list_after_its_warm_up() -> None:
    warm_up = dict(type='LinearLR', begin=0, end=2, by_epoch=True)
    cfg = Config(dict(param_scheduler=[warm_up, dict(COSINE, begin=2)]))
    assert schedule_options(cfg, [6, 4]) == {
        'train_cfg.max_epochs': 10,
        'param_scheduler.1.periods': [4, 4],
        'param_scheduler.1.restart_weights': [1, 1],
    }


@pytest.mark.parametrize(
    'scheduler',
    [
        None,
        dict(type='StepLR', step_size=3),
        dict(COSINE, by_epoch=False),
        dict(COSINE, begin=6),
    ],
)
def test_another_schedule_is_refused(scheduler: dict | None) -> None:
    cfg = Config(dict(param_scheduler=scheduler))
    with pytest.raises(ValueError, match='CosineRestartLR'):
        schedule_options(cfg, [6, 4])


def test_the_learning_rate_of_a_real_run_restarts(tmp_path: Path) -> None:
    cfg = Config.fromfile(PLAIN)
    cfg.merge_from_dict(schedule_options(cfg, [3, 2]))
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path),
            'experiment_name': 'restart',
            'model.backbone.base_channels': 4,
            'model.head.in_channels': 16,
            'train_dataloader.batch_size': 256,
            'default_hooks.logger.interval': 1,
        }
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    log = Path(runner.log_dir) / 'vis_data' / 'scalars.json'
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rates = [row['lr'] for row in rows if 'lr' in row and 'loss' in row]
    wanted = [
        0.05 * (1 + math.cos(math.pi * step / period)) / 2
        for period in (3 * 4, 2 * 4)
        for step in range(period)
    ]
    assert runner.epoch == 5
    assert rates == pytest.approx(wanted)
    assert rates[12] > 50 * rates[11]
