# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Whether the metrics that hooks wait for are among those measured."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.registry import METRICS, DefaultScope
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
    with any metric but MMPretrain's ``Accuracy`` and ``SingleLabelMetric``.

    Args:
        cfg: The full config.
        model: What ``cfg.model`` builds.

    Raises:
        ValueError: If a name is none of theirs. The first validation would
            end the training, or early stopping would never come.
    """
    measured = _measured(cfg, model)
    if measured is None:
        return
    for key, entry, kind in hook_classes(cfg):
        if not isinstance(entry, Mapping):
            continue
        for awaiting, argument in _AWAITED.items():
            value = entry.get(argument)
            if not issubclass(kind, awaiting) or value is None:
                continue
            names = [value] if isinstance(value, str) else value
            for name in names:
                if name != 'auto' and name not in measured:
                    raise ValueError(
                        f'{key}.{argument}={value!r}: val_evaluator measures '
                        f'{", ".join(measured)}, not {name!r}. Set {key}.'
                        f'{argument} to one of these.'
                    )


def _measured(cfg: Config, model: nn.Module) -> list[str] | None:
    """Return the names of the validation's metrics, if they can be known."""
    _, classes = classes_of(model)
    metrics = cfg.get('val_evaluator')
    if isinstance(metrics, Mapping) and 'metrics' in metrics:
        metrics = metrics['metrics']  # of an Evaluator
    if not metrics or classes is None:
        return None
    metrics = [metrics] if isinstance(metrics, Mapping) else list(metrics)
    with DefaultScope.overwrite_default_scope(default_scope(cfg)):
        if not all(_has_known_names(one) for one in metrics):
            return None
        evaluator = Evaluator(copy.deepcopy(metrics))
    sample = dict(
        pred_score=torch.full((classes,), 1 / classes),
        gt_label=torch.tensor([0]),
    )
    evaluator.process([sample])
    return list(evaluator.evaluate(1))


def _has_known_names(metric: Any) -> bool:
    kind: Any = type(metric)
    if isinstance(metric, Mapping):
        kind = resolve(metric.get('type'), metric.get('_scope_'), (METRICS,))
    return kind in (Accuracy, SingleLabelMetric)
