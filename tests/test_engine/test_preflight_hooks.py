# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Hooks and models that do not fit are refused before anything is written.

Through the training tool, as a user does it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.runner import Runner
from torch import nn

from reducenet_mm.engine import preflight

STUDENT = """dict(
    _scope_='mmrazor',
    type='SupernetDistill',
    architecture=dict(classifier, backbone=dict(
        classifier['backbone'], **{backbone})),
    distiller=None,
    {options},
)"""
INPLACE = """dict(
    _scope_='mmrazor',
    type='InplaceDistill',
    architecture=classifier,
    {options},
)"""
SCHEDULE = "dict(type='ScalerScheduleHook')"
ACT = "dict(block='parallel', lora=dict(kind='kxk_1x1', act=True))"


def student(backbone: str = '{}', options: str = "norm_stats='live'") -> str:
    return STUDENT.replace('{backbone}', backbone).replace(
        '{options}', options
    )


def inplace(options: str) -> str:
    return INPLACE.replace('{options}', options)


REFUSED = {
    'merged': (
        student("dict(block='sequential', student_conv='merged')"),
        SCHEDULE,
        "set backbone.student_conv='pair'",
    ),
    'mask of merged': (
        student("dict(block='sequential', student_conv='merged')"),
        "dict(type='LearnedMaskHook')",
        "set backbone.student_conv='pair'",
    ),
    'recalibrated and annealed': (
        student(options="norm_stats='recalibrated'"),
        f"dict(type='SupernetSwitchHook'), {SCHEDULE}",
        "model.norm_stats='recalibrated' with ScalerScheduleHook",
    ),
    'recalibrated by nothing': (
        student(options="norm_stats='recalibrated'"),
        '',
        "add dict(type='SupernetSwitchHook')",
    ),
    'branches without a schedule': (
        student(options='train_branches=True'),
        "dict(type='SupernetSwitchHook')",
        "add dict(type='ScalerScheduleHook')",
    ),
    'activation without a schedule': (
        student(ACT),
        '',
        "add dict(type='ScalerScheduleHook')",
    ),
    'sandwich without position': (
        inplace('sandwich=1'),
        '',
        "add dict(type='InplaceHook')",
    ),
    'schedule in place': (inplace('ramp=0'), SCHEDULE, 'Leave the hook out'),
    'position for a student': (
        student(),
        "dict(type='InplaceHook')",
        "for model.type='InplaceDistill', got SupernetDistill",
    ),
    'two of the same gates': (
        student(),
        "dict(type='LearnedMaskHook'), dict(type='ScalerScheduleHook')",
        'LearnedMaskHook and ScalerScheduleHook in custom_hooks both move 3 ',
    ),
    'no step at scaler 0': (
        student(),
        "dict(type='ScalerScheduleHook', end=3)",
        'from iteration 0 to 3 of a training of 3 (train_cfg.max_epochs',
    ),
    'too late': (
        student(),
        "dict(type='ScalerScheduleHook', end=4)",
        'from iteration 0 to 4 of a training of 3 (train_cfg.max_epochs',
    ),
    'wrong name': (
        student(),
        "dict(type='ScalerScheduleHok')",
        "custom_hooks.0.type='ScalerScheduleHok' is no registered hook",
    ),
    'wrong setting': (
        student(),
        "dict(type='EMAHook'), dict(type='ScalerScheduleHook', ends=1)",
        'custom_hooks.1: ',
    ),
    'wrong value': (
        student(),
        "dict(type='ScalerScheduleHook', shape='cubic', priority=40)",
        'custom_hooks.0: ScalerScheduleHook.shape must be one of',
    ),
}


@pytest.mark.parametrize('case', REFUSED)
def test_hooks_that_do_not_fit(case, make_config, refuse):
    model, hooks, message = REFUSED[case]
    path = make_config(model=model)
    path.write_text(
        f'{path.read_text()}\n'
        'train_cfg.update(max_epochs=3)\n'
        f'custom_hooks = [{hooks}]\n'
    )
    assert message in refuse(path)


def test_nothing_is_computed_again_in_place(make_config, refuse):
    path = make_config(model=inplace('ramp=0'))
    path.write_text(
        f'{path.read_text()}\n'
        "custom_hooks = [dict(type='InplaceHook')]\n"
        "activation_checkpointing = ['architecture.backbone.layer2']\n"
    )
    said = refuse(path)
    assert "activation_checkpointing=['architecture.backbone.layer2']" in said
    assert 'gradients of the student' in said


def test_iterations_are_checked_where_they_are_known(make_config, refuse):
    path = make_config(model=student())
    path.write_text(
        f'{path.read_text()}\n'
        'train_cfg = dict(by_epoch=False, max_iters=3)\n'
        "custom_hooks = [dict(type='ScalerScheduleHook', by_epoch=False, "
        'end=4)]\n'
    )
    assert 'iteration 0 to 4 of a training of 3' in refuse(path)
    path.write_text(path.read_text().replace('by_epoch=False, end', 'end'))
    assert 'counts epochs, and this training has none' in refuse(path)


class TaggingRunner(Runner):
    """A Runner whose checkpoints can have a tag."""

    def save_checkpoint(self, *args: Any, tag: str = '') -> None:
        """Save nothing."""


class TaggingHook(CheckpointHook):
    """A hook with a setting of its own, which hands on the others."""

    def __init__(self, colour: str = '', **kwargs: Any) -> None:
        super().__init__(**kwargs)


def saving(hook: dict, runner: type | None = None) -> Config:
    cfg = Config(dict(default_hooks=dict(checkpoint=hook), train_cfg={}))
    if runner is not None:
        cfg.runner_type = runner
    return cfg


@pytest.mark.parametrize(
    ('hook', 'message'),
    [
        (
            dict(type='CheckpointHook', max_keep_ckpt=3),
            'unknown key default_hooks.checkpoint.max_keep_ckpt=3. Did you '
            "mean 'max_keep_ckpts'? CheckpointHook takes: backend_args, ",
        ),
        # The hook gives it itself, and twice is an error.
        (dict(type='CheckpointHook', meta={}), 'checkpoint.meta={}. '),
        (dict(type='CheckpointHook', tag='a'), "checkpoint.tag='a'. "),
        (dict(type=TaggingHook, color='a'), "Did you mean 'colour'?"),
    ],
)
def test_a_key_that_no_save_takes_is_refused(hook, message):
    with pytest.raises(ValueError) as refused:
        preflight.check_hooks(saving(hook), nn.Identity())
    assert message in str(refused.value)


def test_a_key_that_a_save_takes_passes():
    for hook, runner in (
        (dict(type='CheckpointHook', interval=3, priority='LOW'), None),
        (dict(type=CheckpointHook, _scope_='mmengine', save_begin=1), None),
        (dict(type=TaggingHook, colour='a', interval=3), None),
        (dict(type='CheckpointHook', tag='a'), TaggingRunner),
    ):
        preflight.check_hooks(saving(hook, runner), nn.Identity())


def test_train_names_the_key_that_is_meant(make_config, refuse):
    path = make_config()
    path.write_text(
        f'{path.read_text()}\ndefault_hooks = dict(checkpoint=dict('
        "type='CheckpointHook', max_keep_ckpt=3))\n"
    )
    assert "checkpoint.max_keep_ckpt=3. Did you mean 'max_k" in refuse(path)


def test_hooks_that_fit_pass(make_config: Callable[..., Path]) -> None:
    path = make_config(model=student(options='train_branches=True'))
    cfg = Config.fromfile(path)
    cfg.custom_hooks = [dict(type='ScalerScheduleHook', end=1, priority=40)]
    cfg.train_cfg.max_epochs = 2
    with preflight.no_side_effects():
        model = preflight.check_config(cfg, (), init_weights=False)
        preflight.check_hooks(cfg, model)
    assert cfg.custom_hooks == [
        dict(type='ScalerScheduleHook', end=1, priority=40)
    ]
    assert 'ScalerScheduleHook' in model.missing_hooks()  # not by a check


def test_other_hooks_are_found_wherever_they_are_registered(
    make_config: Callable[..., Path],
) -> None:
    cfg = Config.fromfile(make_config())
    cfg.default_hooks = dict(timer=dict(type='IterTimerHook'), logger=None)
    cfg.custom_hooks = [
        dict(type='PreciseBNHook'),
        dict(type='mmpretrain.SimSiamHook', fix_pred_lr=True, lr=1),
        dict(type='StopDistillHook', _scope_='mmrazor', stop_epoch=1),
        dict(type=EMAHook),
        EMAHook(),
    ]
    before = copy.deepcopy(cfg.custom_hooks[:3])
    with preflight.no_side_effects():
        model = preflight.check_config(cfg, (), init_weights=False)
        preflight.check_hooks(cfg, model)
    assert cfg.custom_hooks[:3] == before


def test_default_hooks_count_and_are_checked(make_config, refuse):
    path = make_config(model=student(options='train_branches=True'))
    text = path.read_text()
    hooks = (
        "default_hooks = dict(fade=dict(type='ScalerScheduleHook', end={}))"
    )
    path.write_text(f'{text}\n{hooks.format(4)}\n')
    assert 'from iteration 0 to 4 of a training of 1' in refuse(path)
    path.write_text(f'{text}\n{hooks.format(1)}\n')
    cfg = Config.fromfile(path)
    cfg.train_cfg.max_epochs = 2
    with preflight.no_side_effects():
        model = preflight.check_config(cfg, (), init_weights=False)
        preflight.check_hooks(cfg, model)
