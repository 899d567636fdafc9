# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Arms that share their data read them once, and cost what they cost."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import DATASETS

from reducenet_mm.datasets import Digits
from reducenet_mm.experiments.campaign.meter import Meter
from reducenet_mm.experiments.cost import (
    measure_training,
    read_training_data,
)

DIGITS = Path(__file__).parents[2] / 'configs/reducenet/digits'
MIXUP = dict(augments=[dict(type='Mixup', alpha=0.8)])


class ListedDigits(Digits):
    """Digits that notes how often they are listed."""

    listed = 0

    def load_data_list(self) -> list[dict[str, Any]]:
        type(self).listed += 1
        return super().load_data_list()


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    DATASETS.register_module(module=ListedDigits)
    ListedDigits.listed = 0
    yield
    DATASETS.module_dict.pop('ListedDigits')


def training(expansion: int, batch_size: int = 64) -> Config:
    cfg = Config.fromfile(DIGITS / 'reducenet8-w16-e4_digits_teacher.py')
    cfg.model.backbone.expansion = expansion
    cfg.model.train_cfg = MIXUP
    cfg.train_dataloader.batch_size = batch_size
    cfg.train_dataloader.dataset.type = 'ListedDigits'
    return cfg


def test_data_are_read_once_for_all_that_train_on_them() -> None:
    meter = Meter()
    costs = [meter.measure(training(width))[0] for width in (1, 2, 4)]
    assert ListedDigits.listed == 1
    assert meter.measure(training(2))[0] is costs[1]
    assert ListedDigits.listed == 1
    other = meter.measure(training(2, batch_size=100))[0]
    assert ListedDigits.listed == 2
    assert other.iterations_per_epoch == 10
    own = training(2)
    own.custom_imports = dict(imports=['reducenet_mm.datasets'])
    assert meter.measure(own)[0] == costs[1]
    assert ListedDigits.listed == 3
    alone = [measure_training(training(width)) for width in (1, 2, 4)]
    assert costs == alone
    assert len({cost.per_image for cost in costs}) == 3


def test_a_schedule_costs_the_same_wherever_it_is_named() -> None:
    student = Config.fromfile(DIGITS / 'reducenet8-w16-e4_digits_student.py')
    fading = dict(type='ScalerScheduleHook')
    custom, default = copy.deepcopy(student), copy.deepcopy(student)
    custom.custom_hooks.append(fading)
    default.default_hooks.fading = fading
    meter = Meter()
    alone, *costs = (
        meter.measure(cfg)[0].per_image for cfg in (student, default, custom)
    )
    assert costs[0] == costs[1] > alone


def test_data_that_are_shared_stay_as_they_were_read() -> None:
    cfg = training(1)
    data = read_training_data(cfg)
    assert (data.images, data.iterations) == (997, 16)
    before = copy.deepcopy(data.batch)
    measure_training(cfg, lambda _: data)
    assert len(data.batch['inputs']) == len(before['inputs']) == 64
    for image, old in zip(data.batch['inputs'], before['inputs']):
        assert torch.equal(image, old)
    for sample, old in zip(data.batch['data_samples'], before['data_samples']):
        assert set(sample.all_keys()) == set(old.all_keys())
        assert torch.equal(sample.gt_label, old.gt_label)
