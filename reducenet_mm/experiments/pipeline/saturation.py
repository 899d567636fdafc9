# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""When the student is saturated: the rule, and what it says of stages.

All of it is a function of validation results at the ends of stages, so that
a pipeline which was killed comes to the same decisions again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mmengine.config import Config

from reducenet_mm.plain_numbers import checked_int, is_number

from ..checks import check_keys
from ..steps import fading_hooks, stop_epochs

ROUNDING = 2e-5
"""Differences of percentages are compared up to this: MMPretrain's are in
float32, whose neighbours lie 8e-6 apart near 100."""

_NEEDS_ALL = (
    'a stage that ends early needs a checkpoint of every epoch that is '
    'validated.'
)


@dataclass(frozen=True, kw_only=True)
class Until:
    """A pipeline's ``until``: which stages and pipelines end early.

    Gains are in percentage points, so the pipeline's ``metric`` must be
    logged in percent: :func:`check_percent`.

    Attributes:
        min_gain: The pipeline ends with a stage that gains less than this
            over the best student before it, in percentage points of
            validation accuracy, > 0.
        patience: A student stage ends after so many validations in a row
            without a gain; None: it is never ended early.
        stage_min_gain: What counts as a gain inside a stage, in points, > 0;
            None: as much as ``min_gain``.
        beyond_teacher: Whether to go on with a student that has reached its
            teacher.

    Raises:
        ValueError: If a value is not one of those.
    """

    min_gain: float
    patience: int | None = None
    stage_min_gain: float | None = None
    beyond_teacher: bool = False

    def __post_init__(self) -> None:
        _check_points('until.min_gain', self.min_gain)
        if self.patience is not None:
            checked_int('until.patience', self.patience, 1)
        if self.stage_min_gain is not None:
            _check_points('until.stage_min_gain', self.stage_min_gain)
            if self.patience is None:
                raise ValueError(
                    f'`until.stage_min_gain`={self.stage_min_gain} has no '
                    'meaning without `until.patience`, the number of '
                    'validations to wait for such a gain. Set it too.'
                )
        if not isinstance(self.beyond_teacher, bool):
            raise ValueError(
                '`until.beyond_teacher` must be True or False, got '
                f'{self.beyond_teacher!r}.'
            )

    @classmethod
    def from_config(cls, value: Any) -> Until | None:
        """Read a pipeline config's ``until``; None runs every stage."""
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise ValueError(f'`until` must be a dict or None, got {value!r}.')
        check_keys('`until`', value, {field.name for field in fields(cls)})
        if 'min_gain' not in value:
            raise ValueError(
                '`until.min_gain` is missing: the percentage points that a '
                'stage must gain for the pipeline to go on.'
            )
        return cls(**value)

    def stage_options(self, cfg: Config, metric: str) -> dict[str, Any]:
        """Return the options which let a student stage end early.

        Every epoch that is validated is also saved: the last checkpoint is
        then that of the last epoch, wherever the stage ends.

        Args:
            cfg: The stage's training config.
            metric: Name of the validation metric.

        Returns:
            Values by dotted key, to be merged into ``cfg``.

        Raises:
            ValueError: If the stage is not validated, or could end while
                branches fade, at an unknown cost, or without a checkpoint.
        """
        check_validated(cfg)
        if self.patience is None:
            return {}
        _check_steady(cfg, self.patience)
        interval = cfg.train_cfg.get('val_interval', 1)
        saved = cfg.get('default_hooks', {}).get('checkpoint', {})
        _check_all_saved(cfg, saved)
        least = self.stage_min_gain or self.min_gain
        hook = 'default_hooks.early_stopping'
        options: dict[str, Any] = {
            f'{hook}.type': 'ResumableEarlyStoppingHook',
            f'{hook}.monitor': metric,
            f'{hook}.rule': 'greater',
            f'{hook}.patience': self.patience,
            f'{hook}.min_delta': least - ROUNDING,
        }
        every = saved.get('interval', -1)  # MMEngine's default: never
        if every < 1 or interval % every:
            options['default_hooks.checkpoint.interval'] = interval
        return options


def _check_steady(cfg: Config, patience: int) -> None:
    """Refuse what makes it matter at which epoch a stage ends."""
    if fading_hooks(cfg):
        raise ValueError(
            f'`until.patience`={patience} with a hook that fades branches '
            '(custom_hooks or default_hooks): validation is at scaler 0, so '
            'the stage could end, and its student be shipped, while they '
            'fade. Leave `until.patience` out, or the hook.'
        )
    if any(at < cfg.train_cfg.max_epochs for at in stop_epochs(cfg)):
        raise ValueError(
            f'`until.patience`={patience} with a StopDistillHook '
            '(custom_hooks or default_hooks): the stage could end at any '
            'epoch, and its epochs do not cost the same. Leave '
            '`until.patience` out, or the hook.'
        )


@dataclass(frozen=True)
class Trained:
    """A student stage that was trained, as validation sees it.

    Attributes:
        name: Of the stage.
        accuracy: At the end of its last epoch, in percent.
    """

    name: str
    accuracy: float


@dataclass(frozen=True)
class Verdict:
    """What the student stages so far amount to.

    Attributes:
        best: Index of the best one; of equals the first, the cheaper one.
        gains: Points of each over the best one before it; None for the
            first.
        end: Why no further stage is worth training; None if one is.
    """

    best: int
    gains: tuple[float | None, ...]
    end: str | None


def judge(
    until: Until, teacher: float, students: Sequence[Trained]
) -> Verdict:
    """Say which student is the best, and whether to go on.

    Args:
        until: The rule.
        teacher: Validation accuracy of the teacher, in percent.
        students: The stages trained so far, at least one, in order.
    """
    gains = gains_of(students)
    best = best_of(students)
    top, last, gain = students[best], students[-1], gains[-1]
    end = None
    if top.accuracy >= teacher - ROUNDING and not until.beyond_teacher:
        end = (
            f'{top.name} reached the teacher ({top.accuracy:.2f} % and '
            f'{teacher:.2f} %)'
        )
    elif gain is not None and gain < until.min_gain - ROUNDING:
        earlier = students[best_of(students[:-1])]
        end = (
            f'{last.name} changed the best student by {gain:+.2f} points '
            f'({earlier.name}: {earlier.accuracy:.2f} %), less than '
            f'until.min_gain={until.min_gain:g} percentage points'
        )
    return Verdict(best, gains, end)


def check_validated(cfg: Config) -> None:
    """Raise ``ValueError`` unless a training is validated."""
    for key in ('val_dataloader', 'val_evaluator', 'val_cfg'):
        if cfg.get(key) is None:
            raise ValueError(
                'student stages are compared by validation, but '
                f'{key} is not set. Set val_dataloader, val_evaluator and '
                'val_cfg.'
            )


def _check_all_saved(cfg: Config, saved: Mapping[str, Any]) -> None:
    """Raise unless every validation can have its checkpoint."""
    train_cfg = cfg.train_cfg
    each_epoch = saved.get('interval', -1) == 1
    intervals = train_cfg.get('dynamic_intervals')
    if intervals and not each_epoch:
        raise ValueError(
            f'`until.patience` with train_cfg.dynamic_intervals={intervals}: '
            f'{_NEEDS_ALL} Set default_hooks.checkpoint.interval=1.'
        )
    begin = saved.get('save_begin', 0)
    first = train_cfg.get('val_begin', 1) if each_epoch else 0
    if begin > first:
        raise ValueError(
            '`until.patience` with default_hooks.checkpoint.save_begin='
            f'{begin}: {_NEEDS_ALL} Leave save_begin out.'
        )


def check_percent(until: Until, metric: str, teacher: float) -> None:
    """Raise ``ValueError`` if the teacher's accuracy is not in percent.

    Args:
        until: The rule.
        metric: Name of the validation metric.
        teacher: The teacher's, as logged. Above 1 it cannot be a fraction.
    """
    if teacher <= 1:
        raise ValueError(
            f'the teacher has {metric}={teacher:g}, not above 1, but '
            f'`until.min_gain`={until.min_gain:g} is in percentage points '
            'and so needs a `metric` in percent. If that is a fraction (as '
            'mAP often is), every stage would gain too little: set `metric` '
            'to one in percent, or `until` to None. If it is in percent, the '
            'teacher has learned nothing: train it longer.'
        )


def best_of(students: Sequence[Trained]) -> int:
    """Return the index of the first of the most accurate stages."""
    accuracies = [one.accuracy for one in students]
    return accuracies.index(max(accuracies))


def gains_of(students: Sequence[Trained]) -> tuple[float | None, ...]:
    """Return the points of each stage over the best one before it."""
    return tuple(
        None
        if index == 0
        else one.accuracy - students[best_of(students[:index])].accuracy
        for index, one in enumerate(students)
    )


def _check_points(key: str, value: Any) -> None:
    if not is_number(value) or not 0 < value <= 100:
        raise ValueError(
            f'`{key}` must be a number of percentage points in (0, 100], got '
            f'{value!r}.'
        )
