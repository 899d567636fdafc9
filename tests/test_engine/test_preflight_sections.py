# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What is checked of top-level sections before anything reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import IterTimerHook

from reducenet_mm.engine import preflight

DIGITS = Path(__file__).parents[2] / 'configs/reducenet/digits'
SECTIONS = ('train_dataloader', 'train_cfg', 'optim_wrapper')


def config(**options: Any) -> Config:
    cfg = Config.fromfile(DIGITS / 'reducenet8-w16-e4_digits_teacher.py')
    cfg.update(options)
    return cfg


def test_what_is_not_set_is_named() -> None:
    cfg = config(train_cfg=None, optim_wrapper=None)
    with pytest.raises(ValueError, match='not set train_cfg, optim_wrapper'):
        preflight.check_sections(cfg, SECTIONS)
    preflight.check_sections(cfg, ('train_dataloader',))


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('train_dataloader', 5),
        ('optim_wrapper', 'SGD'),
        ('train_cfg', [dict(max_epochs=1)]),
        ('default_hooks', True),
        ('randomness', 7),
        ('env_cfg', 'fork'),
    ],
)
def test_what_is_no_dict_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError) as error:
        preflight.check_sections(config(**{name: value}), SECTIONS)
    assert str(error.value).startswith(f'{name} must be a dict, got {value!r}')


@pytest.mark.parametrize('name', ['param_scheduler', 'val_evaluator'])
def test_some_may_be_lists(name: str) -> None:
    preflight.check_sections(config(**{name: [dict()]}), SECTIONS)
    with pytest.raises(ValueError, match=f'{name} must be a dict or a list'):
        preflight.check_sections(config(**{name: 0.5}), SECTIONS)


@pytest.mark.parametrize('name', ['randomness', 'env_cfg'])
def test_some_must_not_be_none(name: str) -> None:
    with pytest.raises(ValueError, match=f'{name}=None is not what'):
        preflight.check_sections(config(**{name: None}), SECTIONS)
    cfg = config()
    cfg.pop(name, None)
    preflight.check_sections(cfg, SECTIONS)


def test_hooks_of_ones_own_are_a_list() -> None:
    preflight.check_sections(config(custom_hooks=[]), SECTIONS)
    with pytest.raises(ValueError, match='custom_hooks must be a list of'):
        preflight.check_sections(
            config(custom_hooks=dict(type='EMAHook')), SECTIONS
        )


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(default_hooks=dict(checkpoint=5)), r'default_hooks\.checkpoint'),
        (dict(default_hooks=dict(logger=[1])), r'default_hooks\.logger'),
        (dict(default_hooks=dict(mine=None)), r'default_hooks\.mine'),
        (dict(custom_hooks=['EMAHook']), r'custom_hooks\.0'),
    ],
)
def test_a_hook_is_a_dict(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f'^{message} must be a dict'):
        preflight.check_sections(config(**options), SECTIONS)


def test_hooks_may_be_built_already_or_left_out() -> None:
    left_out = dict(logger=None, timer=IterTimerHook())
    cfg = config(default_hooks=left_out, custom_hooks=[IterTimerHook()])
    preflight.check_sections(cfg, SECTIONS)


def test_a_training_in_part_is_refused() -> None:
    with pytest.raises(ValueError, match='train_dataloader is not set, but'):
        preflight.check_together(config(train_dataloader=None))
    none = dict.fromkeys(SECTIONS)
    with pytest.raises(ValueError, match='param_scheduler is set, but optim'):
        preflight.check_together(config(**none))
    preflight.check_together(config(**none, param_scheduler=None))


@pytest.mark.parametrize('split', ['val', 'test'])
@pytest.mark.parametrize('part', ['dataloader', 'cfg', 'evaluator'])
def test_an_evaluation_in_part_is_refused(split: str, part: str) -> None:
    name = f'{split}_{part}'
    with pytest.raises(ValueError, match=f'{name} is not set, but {split}_'):
        preflight.check_together(config(**{name: None}))


def test_no_evaluation_and_what_is_built_already_pass() -> None:
    parts = [f'val_{part}' for part in ('dataloader', 'cfg', 'evaluator')]
    for cfg in (
        config(**dict.fromkeys(parts)),
        config(val_evaluator=Evaluator([])),
    ):
        preflight.check_sections(cfg, SECTIONS)
        preflight.check_together(cfg)


def test_what_to_load_is_a_path() -> None:
    preflight.check_sections(config(load_from='epoch_3.pth'), SECTIONS)
    with pytest.raises(ValueError, match='load_from must be the path.*got 5'):
        preflight.check_sections(config(load_from=5), SECTIONS)
