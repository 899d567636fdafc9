# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What waits for a metric that is not measured is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.optim.scheduler import (
    ReduceOnPlateauLR,
    ReduceOnPlateauMomentum,
)
from mmengine.registry import EVALUATOR, METRICS
from torch import nn

from reducenet_mm.engine import preflight
from tests.test_engine.conftest import ROOT, Refuse

DIGITS = ROOT / 'configs' / 'reducenet' / 'digits'
TEACHER = str(DIGITS / 'reducenet8-w16-e4_digits_teacher.py')
ACCURACY = dict(type='Accuracy', topk=(1, 5))
OTHER = dict(type='SingleLabelMetric', items=['f1-score'], prefix='mine')


@METRICS.register_module(name='tests.SomeMetric')
class SomeMetric(BaseMetric):
    """A metric of the user's own."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Keep nothing."""

    def compute_metrics(self, results: list) -> dict:
        """Measure nothing."""
        return {}


def config(
    evaluator: Any,
    save_best: Any,
    *custom: dict,
    loop: dict | None = None,
    schedulers: Any = None,
    **settings: Any,
) -> Config:
    hook = dict(type='CheckpointHook', save_best=save_best, **settings)
    return Config(
        dict(
            default_scope='mmpretrain',
            val_cfg=loop or {},
            val_evaluator=evaluator,
            default_hooks=dict(checkpoint=hook, timer=None),
            custom_hooks=list(custom),
            param_scheduler=schedulers,
        )
    )


def early(
    name: str, kind: str = 'mmengine.EarlyStoppingHook', **settings: Any
) -> dict:
    return dict(type=kind, monitor=name, **settings)


@pytest.mark.parametrize(
    ('evaluator', 'save_best', 'custom', 'message'),
    [
        (
            ACCURACY,
            'accuracy/top-1',
            (),
            "default_hooks.checkpoint.save_best='accuracy/top-1': "
            'val_evaluator measures accuracy/top1, accuracy/top5, not '
            "'accuracy/top-1'. Set default_hooks.checkpoint.save_best to one",
        ),
        ([ACCURACY, OTHER], ['accuracy/top1', 'f1'], (), "not 'f1'"),
        (
            dict(type='Evaluator', metrics=[OTHER]),
            None,
            (early('accuracy/top1'),),
            "custom_hooks.0.monitor='accuracy/top1': val_evaluator measures "
            "mine/f1-score, not 'accuracy/top1'",
        ),
        (
            dict(ACCURACY, thrs=(0.1, None)),
            'accuracy/top1',
            (),
            'accuracy/top1_thr-0.10, accuracy/top1_no-thr, accuracy/top5_thr',
        ),
        (
            ACCURACY,
            'auto',
            (early('top1', 'ResumableEarlyStoppingHook'),),
            "custom_hooks.0.monitor='top1'",
        ),
    ],
)
def test_what_is_not_measured_is_refused(
    classifier: nn.Module,
    evaluator: Any,
    save_best: Any,
    custom: tuple,
    message: str,
):
    cfg = config(evaluator, save_best, *custom)
    with pytest.raises(ValueError) as refused:
        preflight.check_metric_names(cfg, classifier)
    assert message in str(refused.value)


@EVALUATOR.register_module(name='tests.Renaming')
class Renaming(Evaluator):
    """An evaluator with names of its own."""


@pytest.mark.parametrize(
    ('evaluator', 'save_best'),
    [
        (ACCURACY, 'accuracy/top5'),
        (ACCURACY, 'auto'),
        (ACCURACY, None),
        (dict(ACCURACY, prefix='mine'), 'mine/top1'),
        ([ACCURACY, OTHER], ['accuracy/top5', 'accuracy/top1']),
        # No names are known.
        (None, 'x'),
        ([ACCURACY, dict(type='tests.SomeMetric')], 'x'),
        ([SomeMetric(prefix='x')], 'x'),
        (Evaluator([SomeMetric(prefix='x')]), 'x'),
        (dict(type='tests.Renaming', metrics=[ACCURACY]), 'x'),
    ],
)
def test_what_is_measured_or_not_known_passes(
    classifier: nn.Module, evaluator: Any, save_best: Any
):
    preflight.check_metric_names(config(evaluator, save_best), classifier)


@pytest.mark.parametrize(
    'kind', ['ReduceOnPlateauLR', ReduceOnPlateauMomentum]
)
def test_schedulers_wait_for_what_is_measured(
    classifier: nn.Module, kind: Any
):
    def check(*schedulers: Any) -> None:
        cfg = config(ACCURACY, None, schedulers=list(schedulers))
        preflight.check_metric_names(cfg, classifier)

    fits = dict(type=kind, monitor='accuracy/top5', rule='greater')
    check(dict(type='StepLR', step_size=1), fits, object())
    with pytest.raises(ValueError) as refused:
        check(fits, dict(type=kind))
    assert str(refused.value) == (
        "param_scheduler.1.monitor='loss': val_evaluator measures "
        "accuracy/top1, accuracy/top5, not 'loss'. Set "
        "param_scheduler.1.monitor to one of these, with rule='greater'."
    )
    for rule in ({}, dict(rule='less')):
        with pytest.raises(ValueError) as refused:
            check(dict(type=kind, monitor='accuracy/top5', **rule))
        assert str(refused.value) == (
            "param_scheduler.0.rule='less': what it sets would fall while "
            "'accuracy/top5' rises, of which more is better. Set "
            "param_scheduler.0.rule='greater'."
        )
    several = dict(optimizer=[dict(type=kind)])
    cfg = config(ACCURACY, None, schedulers=several)
    preflight.check_metric_names(cfg, classifier)


def test_the_default_is_that_of_mmengine(classifier: nn.Module):
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1)
    scheduler = ReduceOnPlateauLR(optimizer)
    with pytest.raises(KeyError, match='loss'):
        scheduler.step({'accuracy/top1': 10.0})
    scheduler.step({'loss': 1.0})
    assert scheduler.rule == 'less'


def test_what_is_best_must_be_known(classifier: nn.Module):
    def check(*custom: Any, **settings: Any) -> None:
        cfg = config([OTHER, ACCURACY], *custom, **settings)
        preflight.check_metric_names(cfg, classifier)

    for best in ('auto', ['auto']):
        check(best, rule='greater')
        check(best, greater_keys=['f1'])
        with pytest.raises(ValueError) as refused:
            check(best)
        assert str(refused.value) == (
            "default_hooks.checkpoint.save_best='auto' means "
            "'mine/f1-score', the first of what val_evaluator measures "
            '(mine/f1-score, accuracy/top1, accuracy/top5), and MMEngine '
            'does not know whether more of it is better. Set '
            "default_hooks.checkpoint.rule='greater', or 'less', or name "
            'another one.'
        )
    name = 'mine/f1-score'
    with pytest.raises(ValueError, match=r'^default_hooks\.checkpoint: Cann'):
        check(name)
    check(None, early(name, rule='greater'))
    with pytest.raises(ValueError, match=r'^custom_hooks\.0: Cannot infer'):
        check(None, early(name))
    with pytest.raises(ValueError, match='checkpoint: rule must be greater'):
        check('auto', rule='max')


def test_names_are_not_known_with_other_loops(classifier: nn.Module):
    loop = dict(type='mmrazor.SelfDistillValLoop')  # puts `student.` before
    name = 'student.accuracy/top1'
    preflight.check_metric_names(config(ACCURACY, name, loop=loop), classifier)
    loop = dict(type='ValLoop')
    with pytest.raises(ValueError, match="not 'student"):
        preflight.check_metric_names(
            config(ACCURACY, name, loop=loop), classifier
        )


@pytest.mark.parametrize(
    ('evaluator', 'message'),
    [
        (dict(type='Accuracy', top_k=1), 'top_k'),
        ([ACCURACY, ACCURACY], 'accuracy/top1'),
        (dict(type='SingleLabelMetric', items=['f1']), 'val_evaluator: '),
    ],
)
def test_metrics_that_cannot_be_built_are_named(
    classifier: nn.Module, evaluator: Any, message: str
):
    preflight.check_metric_names(config(evaluator, None), classifier)
    with pytest.raises(ValueError, match='^val_evaluator: ') as refused:
        preflight.check_metric_names(config(evaluator, 'x'), classifier)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            "default_hooks = dict(checkpoint=dict(save_best='top-1'))",
            "default_hooks.checkpoint.save_best='top-1': val_evaluator mea",
        ),
        (
            "param_scheduler = dict(_delete_=True, type='ReduceOnPlateauLR')",
            "param_scheduler.monitor='loss': val_evaluator measures accuracy",
        ),
        (
            "param_scheduler = dict(_delete_=True, type='ReduceOnPlateauLR', "
            "monitor='accuracy/top1')",
            "param_scheduler.rule='less': what it sets would fall while 'acc",
        ),
        (
            "val_evaluator = dict(_delete_=True, items=['f1-score'], "
            "type='SingleLabelMetric')\n"
            "default_hooks = dict(checkpoint=dict(save_best='auto'))",
            "save_best='auto' means 'single-label/f1-score', the first of",
        ),
    ],
)
def test_train_says_so_before_it_writes(
    tmp_path: Path, refuse: Refuse, settings: str, message: str
):
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = {TEACHER!r}\n{settings}\n')
    assert message in refuse(path)
