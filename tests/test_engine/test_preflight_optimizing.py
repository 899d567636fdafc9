# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Values of what optimizes are tried before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import (
    DefaultOptimWrapperConstructor,
    OptimWrapper,
    OptimWrapperDict,
    ZeroRedundancyOptimizer,
)
from mmpretrain.registry import MODELS
from torch import nn

from reducenet_mm.engine import preflight
from reducenet_mm.engine.preflight import optimizing

DIGITS = Path(__file__).parents[2] / 'configs/reducenet/digits'
OPTIMIZER = dict(type='SGD', lr=0.1)


def config(**options: Any) -> Config:
    cfg = Config.fromfile(DIGITS / 'reducenet8-w16-e4_digits_teacher.py')
    cfg.merge_from_dict(options)
    return cfg


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2))


WRONG = [
    ('optim_wrapper.optimizer.lr', 'abc', 'optim_wrapper: '),
    ('optim_wrapper.optimizer.momentum', -1.0, 'optim_wrapper: .*momentum'),
    ('optim_wrapper.clip_grad', 5, 'optim_wrapper: .*clip_grad'),
    ('optim_wrapper.accumulative_counts', 0, 'optim_wrapper: .*accumulat'),
    ('optim_wrapper.paramwise_cfg', [1], 'optim_wrapper: .*paramwise_cfg'),
    (
        'optim_wrapper.paramwise_cfg',
        dict(custom_keys={'0': 0.1}),
        "optim_wrapper: 'float' object has no attribute 'get'",
    ),
    ('param_scheduler.begin', 9999, 'param_scheduler: .*begin=9999'),
    ('param_scheduler.eta_min', 1, 'param_scheduler: .*eta_min'),
]


@pytest.mark.parametrize(('key', 'value', 'message'), WRONG)
def test_a_wrong_value_is_named_by_its_section(
    key: str, value: Any, message: str
) -> None:
    options = {key: value}
    if key.endswith('eta_min'):
        options['param_scheduler.eta_min_ratio'] = 0.1
    with pytest.raises((TypeError, ValueError), match=f'^{message}'):
        preflight.check_optimizing(config(**options), model())


def test_the_model_and_the_config_stay_as_they_are() -> None:
    cfg, net = config(), MODELS.build(config().model)
    net.head.requires_grad_(False)
    cfg.optim_wrapper.constructor = 'TrainableOptimWrapperConstructor'
    text = cfg.pretty_text
    parts = dict(net.named_modules())
    trains = {name: p.requires_grad for name, p in net.named_parameters()}
    weights = {name: p.clone() for name, p in net.state_dict().items()}
    preflight.check_optimizing(cfg, net)
    assert cfg.pretty_text == text
    assert dict(net.named_modules()) == parts
    assert trains == {n: p.requires_grad for n, p in net.named_parameters()}
    assert set(trains.values()) == {True, False}
    torch.testing.assert_close(dict(net.state_dict()), weights)


def test_a_scheduler_may_end_with_the_training() -> None:
    cfg = config()
    cfg.param_scheduler = dict(type='LinearLR', begin=5)
    cfg.train_cfg.max_epochs = 5
    with pytest.raises(ValueError, match='begin=5, end=5'):
        preflight.check_optimizing(cfg, model())
    cfg.train_cfg.max_epochs = 6
    preflight.check_optimizing(cfg, model())
    cfg.param_scheduler.update(by_epoch=False, begin=999)
    preflight.check_optimizing(cfg, model())  # whose last is not known yet
    cfg.param_scheduler = dict(type='LinearLR', convert_to_iter_based=True)
    preflight.check_optimizing(cfg, model())
    cfg.param_scheduler.end = 0.5  # of an epoch
    preflight.check_optimizing(cfg, model())
    one_cycle = dict(type='OneCycleLR', eta_max=0.1, total_steps=10)
    cfg.param_scheduler = dict(one_cycle, convert_to_iter_based=True)
    cfg.param_scheduler.pct_start = 0.1
    preflight.check_optimizing(cfg, model())
    cfg.param_scheduler.convert_to_iter_based = False
    with pytest.raises(ValueError, match='^param_scheduler: .*division by z'):
        preflight.check_optimizing(cfg, model())


class Several(DefaultOptimWrapperConstructor):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError('it was built')


@pytest.mark.parametrize(
    'wrapper',
    [
        dict(a=OPTIMIZER, b=OPTIMIZER, constructor=Several),
        dict(type='OptimWrapper', optimizer=OPTIMIZER, constructor=Several),
        dict(optimizer=dict(type=ZeroRedundancyOptimizer, lr='wrong')),
        dict(type=OptimWrapperDict, optimizer=dict(type='SGD', lr='wrong')),
    ],
)
def test_what_only_the_runner_can_build_is_passed_over(wrapper: Any) -> None:
    cfg = config()
    cfg.optim_wrapper = wrapper
    preflight.check_optimizing(cfg, model())


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_mixed_precision_is_tried_where_it_can_be(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizing, 'get_device', lambda: device)
    cfg = config()
    wrong = dict(type='SGD', lr='wrong')
    cfg.optim_wrapper = dict(type='AmpOptimWrapper', optimizer=wrong)
    if device == 'cpu':
        preflight.check_optimizing(cfg, model())
    else:
        with pytest.raises(TypeError, match='^optim_wrapper: '):
            preflight.check_optimizing(cfg, model())


def test_a_runner_with_a_strategy_is_passed_over() -> None:
    wrong = {'optim_wrapper.optimizer.lr': 'wrong'}
    with pytest.raises(TypeError, match='^optim_wrapper: '):
        preflight.check_optimizing(config(**wrong), model())
    cfg = config(**wrong, runner_type='FlexibleRunner')
    preflight.check_optimizing(cfg, model())


def test_what_is_built_already_is_passed_over() -> None:
    cfg = config()
    optimizer = torch.optim.SGD(model().parameters(), lr=0.1)
    cfg.optim_wrapper = OptimWrapper(optimizer)
    preflight.check_optimizing(cfg, model())
    cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=optimizer)
    preflight.check_optimizing(cfg, model())
