# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Whether the metrics that hooks wait for are among those measured."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.registry import EVALUATOR, LOOPS, METRICS, DefaultScope
from mmengine.runner import ValLoop
from mmpretrain.evaluation import Accuracy, SingleLabelMetric
from torch import nn

from ..toolbox import default_scope
from .classes import classes_of
from .hooks import hook_classes
from .model_keys import resolve

_AWAITED = {CheckpointHook: 'save_best', EarlyStoppingHook: 'monitor'}
"""Argument of a hook that names one metric or several."""


def check_metric_names(cfg: Config, model: nn.Module) -> None:
    """Refuse hooks that wait for a metric that is not measured.

    Passed over where there is no validation, and where names cannot be known:
    but with MMEngine's own loop and evaluator and MMPretrain's ``Accuracy``
    and ``SingleLabelMetric``.

    Args:
        cfg: The full config.
        model: What ``cfg.model`` builds.

    Raises:
        ValueError: If a name is none of theirs, or the metrics cannot be
            built. The first validation would end the training, or early
            stopping would never come.
    """
    awaited = list(_awaited(cfg))
    measured = _measured(cfg, model) if awaited else None
    if measured is None:
        return
    for key, value, name in awaited:
        if name not in measured:
            raise ValueError(
                f'{key}={value!r}: val_evaluator measures '
                f'{", ".join(measured)}, not {name!r}. Set {key} to one of '
                'these.'
            )


def check_measured(cfg: Config, model: nn.Module, name: str) -> None:
    """Refuse a metric that the validation does not measure, where known.

    Args:
        cfg: The full config.
        model: What ``cfg.model`` builds.
        name: Of the metric, as in the log.

    Raises:
        ValueError: If it is none of those, or they cannot be built.
    """
    measured = _measured(cfg, model)
    if measured is not None and name not in measured:
        raise ValueError(
            f'`metric`={name!r}: val_evaluator measures '
            f'{", ".join(measured)}. Set `metric` to one of these.'
        )


def _awaited(cfg: Config) -> Iterator[tuple[str, Any, str]]:
    """Yield key and value of hooks' arguments with each name they hold."""
    for key, entry, kind in hook_classes(cfg):
        for awaiting, argument in _AWAITED.items():
            if issubclass(kind, awaiting) and isinstance(entry, Mapping):
                value = entry.get(argument)
                names = [value] if isinstance(value, str) else value or ()
                for name in names:
                    if name != 'auto':
                        yield f'{key}.{argument}', value, name


def _measured(cfg: Config, model: nn.Module) -> list[str] | None:
    """Return the names of the validation's metrics, if they can be known."""
    _, classes = classes_of(model)
    metrics = _metrics(cfg)
    if not metrics or classes is None:
        return None
    sample = dict(
        pred_score=torch.full((classes,), 1 / classes),
        gt_label=torch.tensor([0]),
    )
    with DefaultScope.overwrite_default_scope(default_scope(cfg)):
        try:
            evaluator = Evaluator(copy.deepcopy(metrics))
            evaluator.process([sample])
            return list(evaluator.evaluate(1))
        except (AssertionError, TypeError, ValueError) as error:
            raise ValueError(f'val_evaluator: {error}') from error


def _metrics(cfg: Config) -> list[Mapping[str, Any]]:
    """Return the configs of the metrics, none if one has unknown names."""
    scope = default_scope(cfg)
    evaluator, loop = cfg.get('val_evaluator'), cfg.get('val_cfg')
    kind = loop.get('type', ValLoop) if isinstance(loop, Mapping) else None
    metrics = evaluator
    if isinstance(evaluator, Mapping) and 'metrics' in evaluator:
        metrics = evaluator['metrics']
        name = evaluator.get('type', Evaluator)
        if resolve(name, scope, (EVALUATOR,)) is not Evaluator:
            return []
    if resolve(kind, scope, (LOOPS,)) is not ValLoop:
        return []
    metrics = [metrics] if isinstance(metrics, Mapping) else metrics
    if not isinstance(metrics, (list, tuple)):
        return []
    for one in metrics:
        inner = one.get('_scope_', scope) if isinstance(one, Mapping) else ''
        kind = inner and resolve(one.get('type'), inner, (METRICS,))
        if kind not in (Accuracy, SingleLabelMetric):
            return []
    return list(metrics)
