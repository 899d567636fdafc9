# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Hooks and models that do not fit are refused before anything is written.

Through the training tool, as a user does it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hooks import EMAHook

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
