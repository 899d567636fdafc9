# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which settings of a stage go together, checked before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..supernet import hosts
from .norm_stats import NORM_STATS
from .weight_reuse import WeightReuse

PREDICT_VIEWS = ('student', 'teacher')


def check_settings(
    reuse: WeightReuse,
    student_init: str | None,
    norm_stats: str,
    distiller: Mapping[str, Any] | None,
    predict_view: str,
) -> None:
    """Raise ``ValueError`` if a setting or their combination is wrong."""
    check_choice('norm_stats', norm_stats, NORM_STATS)
    check_choice('predict_view', predict_view, PREDICT_VIEWS)
    if predict_view == 'teacher' and distiller is None:
        raise ValueError(
            "model.predict_view='teacher' needs model.distiller: without one "
            'the stage keeps no teacher. Evaluate the teacher with its own '
            'config and checkpoint.'
        )
    _check_recorders((distiller or {}).get('teacher_recorders') or {})
    if student_init is not None and reuse.inherit != 'all':
        raise ValueError(
            f'model.reuse.inherit={reuse.inherit!r} has no meaning with '
            f'model.student_init={student_init!r}, which gives all of the '
            'student its start. Set one of the two.'
        )


def check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ``ValueError`` unless ``model.<key>`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(
            f'model.{key} must be one of {choices}, got {value!r}.'
        )


def _check_recorders(recorders: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse what would read the student's tensors for the teacher's."""
    for name, config in recorders.items():
        if str(config.get('type')).endswith('Parameter'):
            raise ValueError(
                f'model.distiller.teacher_recorders.{name}: a recorder of '
                'type Parameter reads the tensor of the one instance, which '
                "may be the student's. Record what a module returns "
                '(ModuleOutputs) instead.'
            )


def check_has_branch(architecture: nn.Module) -> None:
    """Raise ``ValueError`` if ``architecture`` holds no teacher."""
    if next(hosts(architecture), None) is None:
        raise ValueError(
            'model.architecture has no ReduceNet branch, so it has no '
            'teacher. Use a ReduceNet backbone or graft one.'
        )


NEEDS_RECALIBRATION = (
    "model.norm_stats='recalibrated', but nothing does that: add "
    "dict(type='SupernetSwitchHook') to custom_hooks."
)
"""Why a training without ``SupernetSwitchHook`` would be wrong."""

NEEDS_SCHEDULE = (
    'model.train_branches=True, or the activation inside a lora (act=True), '
    'needs a schedule and stays off without one: add '
    "dict(type='ScalerScheduleHook') to custom_hooks, for a lora with "
    "gates=['lambda_relu']."
)
"""Why one without ``ScalerScheduleHook`` would be wrong."""
