# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What stands beside the model is checked before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.optim import OptimWrapper
from torch.optim import SGD

from reducenet_mm.datasets import SeededSampler
from reducenet_mm.engine import preflight
from reducenet_mm.registry import DATA_SAMPLERS

DIGITS = Path(__file__).parents[2] / 'configs/reducenet/digits'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
CROP = dict(type='RandomCrop', crop_size=8, padding=1)


def config(**options: Any) -> Config:
    cfg = Config.fromfile(DIGITS / 'reducenet8-w16-e4_digits_teacher.py')
    cfg.merge_from_dict({k.replace('__', '.'): v for k, v in options.items()})
    return cfg


def check(cfg: Config, loaders: tuple[str, ...] = LOADERS) -> None:
    preflight.check_config(cfg, loaders, init_weights=False)


WRONG = {
    'train_dataloader.dataset.type': ('Digit', "mean 'Digits'"),
    'train_dataloader.dataset.pipeline.1.type': (
        'RandomCrap',
        "mean 'RandomCrop'",
    ),
    'train_dataloader.sampler.type': ('SeedSampler', "mean 'SeededSampler'"),
    'val_evaluator.type': ('Acuracy', "mean 'Accuracy'"),
    'optim_wrapper.type': ('OptimWraper', "mean 'OptimWrapper'"),
    'optim_wrapper.optimizer.type': ('SDG', 'no registered optimizer'),
    'param_scheduler.type': ('CosineLR', "mean 'CosineRestartLR'"),
    'val_cfg.type': ('ValLop', "mean 'ValLoop'"),
    'train_dataloader.batch_size': (0, '>= 1, got 0'),
    'val_dataloader.batch_size': ('8', ">= 1, got '8'"),
    'train_cfg.max_epochs': (0, '>= 1, got 0'),
    'train_cfg.val_interval': (0, '>= 1, got 0'),
}


@pytest.mark.parametrize('key', WRONG)
def test_what_is_wrong_is_named_by_its_key(key: str) -> None:
    value, hint = WRONG[key]
    cfg = config()
    cfg.merge_from_dict({key: value})
    with pytest.raises(ValueError) as error:
        check(cfg)
    assert key in str(error.value)
    assert repr(value) in str(error.value)
    assert hint in str(error.value)


def test_it_may_stand_inside_lists_and_wrappers() -> None:
    cfg = config(val_evaluator=[dict(type='Accuracy'), dict(type='None')])
    with pytest.raises(ValueError, match=r'val_evaluator\.1\.type=.None. is'):
        check(cfg)
    wrong = dict(type='Digits', split='train', pipeline=[dict(type='Pack')])
    wrapped = dict(type='ConcatDataset', datasets=[wrong])
    cfg = config(val_dataloader__dataset=wrapped)
    cfg.val_dataloader.dataset._delete_ = True
    key = r'val_dataloader\.dataset\.datasets\.0\.pipeline\.0\.type=.Pack.'
    with pytest.raises(ValueError, match=key):
        check(cfg)


class OwnSampler(SeededSampler):
    """A sampler that hands seeds on."""


def test_all_that_mmengine_can_build_passes() -> None:
    DATA_SAMPLERS.register_module(module=OwnSampler)
    try:
        cfg = config(
            val_evaluator=dict(type='Evaluator', metrics=dict(type='Accuracy'))
        )
        cfg.optim_wrapper = dict(
            type=OptimWrapper, optimizer=dict(type='torch.optim.SGD', lr=0.1)
        )
        cfg.param_scheduler = [
            dict(type='mmengine.MultiStepLR', milestones=[])
        ]
        cfg.train_dataloader.sampler.type = 'OwnSampler'
        check(cfg)
        cfg.optim_wrapper = dict(optimizer=dict(type=SGD, lr=0.1))
        cfg.param_scheduler = None
        cfg.train_dataloader.batch_size = None
        cfg.train_cfg.val_interval = 1e9
        cfg.train_dataloader.sampler.type = OwnSampler
        check(cfg)
        cfg.val_evaluator = Evaluator([])
        cfg.optim_wrapper = dict(  # of several optimizers
            constructor='Own', first=dict(optimizer=dict(type=SGD, lr=0.1))
        )
        check(cfg)
    finally:
        DATA_SAMPLERS.module_dict.pop('OwnSampler')


def test_a_test_does_not_ask_how_the_network_was_trained() -> None:
    cfg = config(optim_wrapper__optimizer__type='MyOptimizer')
    cfg.train_dataloader.dataset.pipeline[1].type = 'MyTransform'
    check(cfg, ('test_dataloader',))
    with pytest.raises(ValueError, match='MyTransform'):
        check(cfg)


@pytest.mark.parametrize('sampler', ['InfiniteSampler', 'DefaultSampler'])
def test_seeds_that_no_sampler_hands_on_are_refused(sampler: str) -> None:
    cfg = config(train_dataloader__sampler__type=sampler)
    key = r'train_dataloader\.dataset\.pipeline\.0\.type=.SeedSample. needs'
    with pytest.raises(ValueError, match=key) as error:
        check(cfg)
    assert f"sampler.type='{sampler}'" in str(error.value)
    cfg.train_dataloader.dataset.pipeline = [CROP, dict(type='PackInputs')]
    check(cfg)
