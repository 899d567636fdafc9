# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What changes during a training costs its time, whatever the length."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from reducenet_mm.experiments.campaign.config import read_campaign
from reducenet_mm.experiments.campaign.plan import plan_arms
from reducenet_mm.experiments.cost import measure_training

DIGITS = Path(__file__).parents[2] / 'configs' / 'reducenet' / 'digits'
STUDENT = DIGITS / 'reducenet8-w16-e4_digits_student.py'


def annealed(
    folder: Path, length: str, schedule: str, kind: str = 'ScalerScheduleHook'
) -> Path:
    student = folder / 'annealed.py'
    student.write_text(
        f"_base_ = '{STUDENT}'\n"
        'custom_hooks = [*_base_.custom_hooks, dict('
        f"type='{kind}', {schedule})]\n"
    )
    campaign = folder / 'campaign.py'
    campaign.write_text(
        'seeds = [0]\n'
        'arms = dict(\n'
        f"    teacher=dict(config='{DIGITS}/reducenet8-w16-e4_digits_teacher"
        ".py'),\n"
        f"    annealed=dict(config='annealed.py', {length}, "
        "needs={'model.teacher_ckpt': 'teacher'}))\n"
    )
    return campaign


@pytest.mark.parametrize('epochs', [12, 40])
def test_an_arm_costs_what_its_own_length_makes_of_it(
    epochs: int, tmp_path: Path
) -> None:
    path = annealed(tmp_path, f'epochs={epochs}', 'end=10')
    arm = plan_arms(read_campaign(path))['annealed']
    assert arm.cfg.train_cfg.max_epochs == arm.epochs == epochs
    cost = measure_training(arm.cfg)
    assert arm.cost == cost
    assert arm.own_multiply_adds == epochs * cost.per_epoch


@pytest.mark.parametrize('schedule', ['end=10', 'begin=1'])
def test_a_length_from_a_cost_that_follows_from_it_is_refused(
    schedule: str, tmp_path: Path
) -> None:
    path = annealed(tmp_path, "match='teacher', times=9", schedule)
    with pytest.raises(ValueError, match='leave `begin` and `end` out'):
        plan_arms(read_campaign(path))
    path = annealed(tmp_path, "match='teacher', times=9", "shape='cosine'")
    assert plan_arms(read_campaign(path))['annealed'].epochs > 10


def stopped(folder: Path, length: str, at: int) -> Path:
    kind = 'mmrazor.StopDistillHook'
    return annealed(folder, length, f'stop_epoch={at}', kind)


def test_a_teacher_that_stops_costs_until_then(tmp_path: Path) -> None:
    per_image = {}
    for at in (0, 1, 4):
        arm = plan_arms(read_campaign(stopped(tmp_path, 'epochs=4', at)))
        per_image[at] = arm['annealed'].cost.per_image
    cfg = Config.fromfile(STUDENT)
    assert per_image[4] == measure_training(cfg).per_image
    cfg.model.distiller = None
    assert per_image[0] == measure_training(cfg).per_image < per_image[4]
    assert per_image[1] == 0.25 * per_image[4] + 0.75 * per_image[0]
    path = stopped(tmp_path, "match='teacher', times=9", 1)
    with pytest.raises(ValueError, match=r'StopDistillHook\(stop_epoch=1\)'):
        plan_arms(read_campaign(path))
