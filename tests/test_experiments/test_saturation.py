# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""When stages and pipelines end, decided on validation alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmpretrain.evaluation import Accuracy

from reducenet_mm.experiments.pipeline.saturation import (
    ROUNDING,
    Trained,
    Until,
    check_percent,
    judge,
)


def verdict(teacher: float, *accuracies: float, **until: Any):
    students = [Trained(f's{i}', a) for i, a in enumerate(accuracies)]
    return judge(Until(**dict(dict(min_gain=0.5), **until)), teacher, students)


def test_it_goes_on_while_stages_gain() -> None:
    found = verdict(99.0, 90.0, 91.0, 91.5)
    assert found.end is None
    assert found.best == 2
    assert found.gains == (None, 1.0, 0.5)


def test_a_stage_that_gains_too_little_ends_it_and_may_be_the_best() -> None:
    found = verdict(99.0, 90.0, 91.0, 91.4)
    assert found.best == 2
    assert found.end == (
        's2 changed the best student by +0.40 points (s1: 91.00 %), less '
        'than until.min_gain=0.5 percentage points'
    )


def test_a_stage_that_loses_is_not_the_best() -> None:
    found = verdict(99.0, 90.0, 88.0)
    assert found.best == 0
    assert found.gains == (None, -2.0)
    assert 's1 changed the best student by -2.00' in str(found.end)


def test_of_equals_the_earlier_one_is_the_best() -> None:
    assert verdict(99.0, 90.0, 90.0).best == 0


def test_the_gain_is_over_the_best_and_not_over_the_last() -> None:
    """s1 has lost; s2 is above it but not above s0."""
    found = verdict(99.0, 90.0, 88.0, 90.1)
    assert found.gains[2] == pytest.approx(0.1)
    assert found.best == 2


def test_the_first_stage_has_no_student_before_it() -> None:
    assert verdict(99.0, 10.0).end is None


def test_reaching_the_teacher_ends_it() -> None:
    assert verdict(91.0, 90.0, 90.99).end is None
    for accuracy in (91.0, 92.0):
        found = verdict(91.0, 90.0, accuracy)
        assert found.end == (
            f's1 reached the teacher ({accuracy:.2f} % and 91.00 %)'
        )
        assert verdict(91.0, 90.0, accuracy, beyond_teacher=True).end is None
    assert 's0 reached' in str(verdict(91.0, 91.0).end)


def test_a_gain_of_exactly_the_least_goes_on_whatever_the_rounding() -> None:
    images = 300
    before, after = 100 * 269 / images, 100 * 270 / images
    assert after - before != 100 / images  # as floats are
    assert verdict(99.0, before, after, min_gain=100 / images).end is None


def test_mmpretrains_accuracy_is_compared_up_to_its_precision() -> None:
    """15 images of 5,000 are the 0.3 points asked for; 14 are not."""
    labels = torch.zeros(5000, dtype=torch.long)

    def accuracy(right: int) -> float:
        scores = torch.zeros(5000, 2)
        scores[:right, 0] = scores[right:, 1] = 1
        (value,) = Accuracy.calculate(scores, labels, topk=(1,))[0]
        return value.item()

    before, after = accuracy(3968), accuracy(3983)
    assert after - before < 0.3 - 1e-9  # as float32 is
    assert verdict(99.0, before, after, min_gain=0.3).end is None
    end = verdict(99.0, before, accuracy(3982), min_gain=0.3).end
    assert '+0.28 points' in str(end)


@pytest.mark.parametrize('value', [0.0, 0.412, 1.0])
def test_a_fraction_is_no_percentage(value: float) -> None:
    until = Until(min_gain=0.3)
    message = (
        rf'coco/bbox_mAP={value:g}, not above 1, but `until.min_gain`=0.3 is '
        r'in percentage points .* `metric` in percent'
    )
    with pytest.raises(ValueError, match=message):
        check_percent(until, 'coco/bbox_mAP', value)
    check_percent(until, 'accuracy/top1', 1.01)


def saved_every(interval: int) -> dict:
    return dict(checkpoint=dict(type='CheckpointHook', interval=interval))


def stage(**changes: Any) -> Config:
    content = dict(
        val_dataloader=dict(batch_size=1),
        val_evaluator=dict(type='Accuracy'),
        val_cfg=dict(type='ValLoop'),
        train_cfg=dict(max_epochs=9, val_interval=2),
        default_hooks=saved_every(3),
    )
    return Config(dict(content, **changes))


def test_a_stage_is_saved_where_it_is_validated() -> None:
    until = Until(min_gain=0.5, patience=4)
    options = until.stage_options(stage(), 'acc')
    assert options == {
        'default_hooks.early_stopping.type': 'ResumableEarlyStoppingHook',
        'default_hooks.early_stopping.monitor': 'acc',
        'default_hooks.early_stopping.rule': 'greater',
        'default_hooks.early_stopping.patience': 4,
        'default_hooks.early_stopping.min_delta': 0.5 - ROUNDING,
        'default_hooks.checkpoint.interval': 2,
    }
    often = stage(default_hooks=saved_every(1))
    assert 'default_hooks.checkpoint.interval' not in (
        until.stage_options(often, 'acc')
    )
    never = stage(default_hooks=saved_every(-1))
    saved = until.stage_options(never, 'acc')
    assert saved['default_hooks.checkpoint.interval'] == 2
    strict = Until(min_gain=0.5, patience=4, stage_min_gain=0.2)
    delta = strict.stage_options(stage(), 'acc')
    assert delta['default_hooks.early_stopping.min_delta'] == 0.2 - ROUNDING
    assert Until(min_gain=0.5).stage_options(stage(), 'acc') == {}
    with pytest.raises(ValueError, match='val_dataloader is not set'):
        until.stage_options(stage(val_dataloader=None), 'acc')
    fading = stage(custom_hooks=[dict(type='ScalerScheduleHook')])
    with pytest.raises(ValueError, match='until.patience`=4 with a hook that'):
        until.stage_options(fading, 'acc')
    assert Until(min_gain=0.5).stage_options(fading, 'acc') == {}
    masked = stage(default_hooks=dict(mask=dict(type='LearnedMaskHook')))
    with pytest.raises(ValueError, match='until.patience`=4 with a hook that'):
        until.stage_options(masked, 'acc')
    stop = dict(type='mmrazor.StopDistillHook', stop_epoch=1)
    with pytest.raises(ValueError, match='=4 with a StopDistillHook'):
        until.stage_options(stage(custom_hooks=[stop]), 'acc')


@pytest.mark.parametrize(
    ('interval', 'key', 'value', 'refused'),
    [
        (2, 'default_hooks.checkpoint.save_begin', 1, True),
        (1, 'default_hooks.checkpoint.save_begin', 1, False),
        (1, 'default_hooks.checkpoint.save_begin', 3, True),
        (2, 'train_cfg.dynamic_intervals', [(5, 1)], True),
        (1, 'train_cfg.dynamic_intervals', [(5, 1)], False),
    ],
)
def test_an_early_end_needs_its_checkpoint(
    interval: int, key: str, value: Any, refused: bool
) -> None:
    cfg = stage(default_hooks=saved_every(interval))
    cfg.merge_from_dict({key: value})
    until = Until(min_gain=0.5, patience=4)
    if refused:
        with pytest.raises(ValueError, match=f'with {key}='):
            until.stage_options(cfg, 'acc')
    else:
        assert until.stage_options(cfg, 'acc')


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (3, '`until` must be a dict or None, got 3'),
        (dict(), '`until.min_gain` is missing'),
        (dict(min_gain=1, gain=1), r"`until` has unknown keys \['gain'\]"),
        (
            dict(min_gain=0),
            r'`until.min_gain` must be .* in \(0, 100\], got 0',
        ),
        (dict(min_gain='1'), "`until.min_gain` must be .* got '1'"),
        (dict(min_gain=True), '`until.min_gain` must be .* got True'),
        (dict(min_gain=1, patience=0), '`until.patience` must be .* got 0'),
        (
            dict(min_gain=1, patience=2, stage_min_gain=-1),
            '`until.stage_min_gain` must be .* got -1',
        ),
        (
            dict(min_gain=1, stage_min_gain=1),
            'no meaning without `until.patience`',
        ),
        (
            dict(min_gain=1, beyond_teacher=1),
            '`until.beyond_teacher` must be True or False, got 1',
        ),
    ],
)
def test_wrong_values_are_named(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Until.from_config(value)


def test_no_rule_runs_everything() -> None:
    assert Until.from_config(None) is None
