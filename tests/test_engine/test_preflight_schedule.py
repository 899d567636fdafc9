# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A learning rate that ends before or after the training is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mmpretrain
import pytest
from mmengine.config import Config

from reducenet_mm.engine.preflight import schedule_warning
from tests.config_runs import CONFIGS, LEAVES, stem
from tests.test_engine.conftest import CONFIG, TRAIN

MIM = Path(mmpretrain.__file__).parent / '.mim/configs'
WARM_UP = dict(type='LinearLR', start_factor=0.01, end=5)


def warning(schedulers: Any, **loop: Any) -> str | None:
    cfg = dict(
        default_scope='mmpretrain',
        param_scheduler=schedulers,
        train_cfg=loop or dict(max_epochs=60),
    )
    return schedule_warning(Config(cfg))


ON = 'training goes on when the learning rate has fallen'
STOPS = 'the training ends before the learning rate has fallen'


@pytest.mark.parametrize(
    ('schedulers', 'said', 'end', 'what'),
    [
        (
            dict(
                type='CosineRestartLR', periods=[30], convert_to_iter_based=1
            ),
            'param_scheduler.periods=[30]',
            30,
            ON,
        ),
        (
            [WARM_UP, dict(type='CosineRestartLR', begin=5, periods=[25, 60])],
            'param_scheduler.1.periods=[25, 60]',
            90,
            STOPS,
        ),
        (
            [WARM_UP, dict(type='CosineAnnealingLR', begin=5, T_max=95)],
            'param_scheduler.1.T_max=95',
            100,
            STOPS,
        ),
        (
            [dict(type='CosineAnnealingLR', begin=5, end=30), WARM_UP],
            'param_scheduler.0.end=30',
            30,
            ON,
        ),
        (dict(type='PolyLR', end=70), 'param_scheduler.end=70', 70, STOPS),
        (
            dict(
                type='mmengine.LinearLR', start_factor=1, end_factor=0, end=9
            ),
            'param_scheduler.end=9',
            9,
            ON,
        ),
        (
            dict(type='OneCycleLR', eta_max=1, total_steps=50),
            'param_scheduler.total_steps=50',
            50,
            ON,
        ),
    ],
)
def test_warns_of(schedulers, said, end, what):
    text = warning(schedulers)
    assert text.startswith(said)
    assert f'until {end} epochs, but train_cfg.max_epochs=60: {what}.' in text


def test_counts_iterations_where_the_training_does():
    text = warning(
        [dict(type='PolyLR', end=80, by_epoch=False)],
        type='IterBasedTrainLoop',
        max_iters=100,
    )
    assert 'until 80 iters, but train_cfg.max_iters=100' in text


@pytest.mark.parametrize(
    'schedulers',
    [
        None,
        [],
        dict(type='ConstantLR', factor=0.5, end=5),
        dict(type='LinearLR', end=5),
        dict(type='MultiStepLR', milestones=[20, 90]),
        dict(type='StepLR', step_size=7),
        dict(type='ExponentialLR', gamma=0.9),
        dict(type='CosineAnnealingLR', eta_min=1e-5),
        dict(type='CosineRestartLR', periods=[20, 40]),
        [WARM_UP, dict(type='CosineRestartLR', begin=5, periods=[55])],
        # The warm-up forgotten: it has fallen far enough.
        [WARM_UP, dict(type='CosineAnnealingLR', begin=5, T_max=60)],
        # Down, up and down again.
        dict(type='CosineAnnealingLR', T_max=20),
        # Kept low, or lowered on, after the cosine.
        [
            dict(type='CosineAnnealingLR', end=50),
            dict(type='ConstantLR', begin=50, end=60, factor=1.0),
        ],
        [dict(type='PolyLR', end=30), dict(type='StepLR', step_size=10)],
        # Of another quantity or in another unit than the training.
        dict(type='CosineAnnealingMomentum', T_max=30),
        dict(type='PolyLR', end=30, by_epoch=False),
        # The last step, counted from 0, has the least rate.
        dict(type='CosineAnnealingLR', T_max=59),
        dict(type='PolyLR', end=59),
        # One for each optimizer.
        dict(first=dict(type='PolyLR', end=30)),
    ],
)
def test_does_not_warn_of(schedulers):
    assert warning(schedulers) is None


OURS = LEAVES + [
    path
    for path in sorted(CONFIGS.glob('**/*.py'))
    if path.parent.name in ('grafted', 'stages')
    or path.parents[1].name == 'experiments'
    and path.stem in ('plain', 'teacher')
]


@pytest.mark.parametrize('path', OURS, ids=stem)
def test_our_own_configs_end_with_their_learning_rate(path):
    assert len(OURS) > 30
    cfg = Config.fromfile(path)
    assert schedule_warning(cfg) is None
    cfg.train_cfg.max_epochs += 1
    assert 'periods' in schedule_warning(cfg)


STOCK = sorted((MIM / '_base_/schedules').glob('*.py')) + [
    MIM / 't2t_vit/t2t-vit-t-14_8xb64_in1k.py',
    MIM / 'arcface/resnet50-arcface_8xb32_inshop.py',
    MIM / 'spark/spark_sparse-resnet50_8xb512-amp-coslr-1600e_in1k.py',
]


@pytest.mark.parametrize('path', STOCK, ids=stem)
def test_configs_of_mmpretrain_end_with_their_learning_rate(path):
    assert len(STOCK) > 20
    assert schedule_warning(Config.fromfile(path)) is None


def test_the_one_of_mmpretrain_that_does_not():
    path = MIM / 'resnet/resnet50_8xb128_coslr-90e_in21k.py'
    assert 'T_max=95' in schedule_warning(Config.fromfile(path))


def test_the_warning_is_in_the_log_once(tmp_path):
    dataset = (
        "dict(type='Digits', split='train', indices=8, "
        "pipeline=[dict(type='PackInputs')])"
    )
    config = tmp_path / 'config.py'
    config.write_text(
        CONFIG.format(model='classifier', dataset=dataset)
        + "param_scheduler = dict(type='CosineRestartLR', periods=[3], "
        'eta_min=0)\n'
    )
    TRAIN([str(config), '--work-dir', str(tmp_path / 'run')])
    (log,) = (tmp_path / 'run').glob('*/*.log')
    (line,) = [x for x in log.read_text().splitlines() if STOPS in x]
    assert 'WARNING' in line
    assert 'param_scheduler.periods=[3]' in line and 'max_epochs=1:' in line
