# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Hooks that wait for a metric that is not measured are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.registry import EVALUATOR, METRICS
from torch import nn

from reducenet_mm.engine import preflight
from tests.test_engine.conftest import TRAIN

TEACHER = 'configs/reducenet/digits/reducenet8-w16-e4_digits_teacher.py'
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
    evaluator: Any, save_best: Any, *custom: dict, loop: dict | None = None
) -> Config:
    hook = dict(type='CheckpointHook', interval=1, save_best=save_best)
    return Config(
        dict(
            default_scope='mmpretrain',
            val_cfg=loop or {},
            val_evaluator=evaluator,
            default_hooks=dict(checkpoint=hook, timer=None),
            custom_hooks=list(custom),
        )
    )


def early(name: str, kind: str = 'mmengine.EarlyStoppingHook') -> dict:
    return dict(type=kind, monitor=name)


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
        ([ACCURACY, OTHER], ['mine/f1-score', 'accuracy/top1']),
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


def test_train_says_so_before_it_writes(tmp_path: Path, capsys: Any):
    option = 'default_hooks.checkpoint.save_best=accuracy/top-1'
    folder = tmp_path / 'run'
    with pytest.raises(SystemExit) as stopped:
        TRAIN([TEACHER, '--work-dir', str(folder), '--cfg-options', option])
    assert stopped.value.code == 2
    key, value = option.split('=')
    assert f'{key}={value!r}: val_evaluator' in capsys.readouterr().err
    assert not folder.exists()
