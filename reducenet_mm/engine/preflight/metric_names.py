# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Whether what hooks and schedulers wait for is among what is measured."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.optim.scheduler.param_scheduler import (
    ReduceOnPlateauParamScheduler,
)
from mmengine.registry import EVALUATOR, LOOPS, METRICS, DefaultScope
from mmengine.runner import TestLoop, ValLoop
from mmpretrain.evaluation import Accuracy, SingleLabelMetric
from torch import nn

from ..toolbox import default_scope
from .classes import classes_of
from .hooks import build_hook, hook_classes
from .model_keys import resolve
from .schedule import scheduler_classes

_AWAITED: dict[type, tuple[str, str | None]] = {
    CheckpointHook: ('save_best', None),
    EarlyStoppingHook: ('monitor', None),
    ReduceOnPlateauParamScheduler: ('monitor', 'loss'),
}
"""What waits -> its argument that names one metric or several; default."""


def check_metric_names(cfg: Config, model: nn.Module) -> None:
    """Refuse hooks and schedulers that wait for what is not measured.

    Passed over where there is no validation, and where names cannot be known:
    but with MMEngine's own loop and evaluator and MMPretrain's ``Accuracy``
    and ``SingleLabelMetric``.

    Args:
        cfg: The full config.
        model: What ``cfg.model`` builds.

    Raises:
        ValueError: If a name is none of theirs, a hook cannot tell whether
            more of its metric is better, a scheduler takes less for better,
            or the metrics cannot be built. The first validation would end
            the training, early stopping would never come, or the rate would
            fall while the network gets better.
    """
    awaited = list(_awaited(cfg))
    measured = _measured(cfg, model) if awaited else None
    if measured is None:
        return
    for key, value, name in awaited:
        if name not in (None, *measured):
            rule = ''
            if key.startswith('param_scheduler'):
                rule = ", with rule='greater'"
            raise ValueError(
                f'{key}={value!r}: val_evaluator measures '
                f'{", ".join(measured)}, not {name!r}. Set {key} to one of '
                f'these{rule}.'
            )
    _check_rules(cfg, measured)
    _check_plateaus(cfg)


def _check_plateaus(cfg: Config) -> None:
    """Refuse schedulers that take less for better: here more always is."""
    for key, entry, kind in scheduler_classes(cfg):
        rule = entry.get('rule', 'less')  # MMEngine's default
        if issubclass(kind, ReduceOnPlateauParamScheduler) and rule == 'less':
            raise ValueError(
                f'{key}.rule={rule!r}: what it sets would fall while '
                f'{entry["monitor"]!r} rises, of which more is better. Set '
                f"{key}.rule='greater'."
            )


def _check_rules(cfg: Config, measured: list[str]) -> None:
    """Refuse hooks that cannot tell whether more of a metric is better."""
    waiting = (CheckpointHook, EarlyStoppingHook)
    for key, entry, kind in hook_classes(cfg):
        if not isinstance(entry, Mapping) or not issubclass(kind, waiting):
            continue
        hook = build_hook(entry, key, default_scope(cfg))
        if getattr(hook, 'save_best', None) != ['auto']:
            continue
        try:
            # What the hook itself does, but after the first validation.
            hook._init_rule(hook.rules, measured[:1])
        except ValueError as error:
            raise ValueError(
                f"{key}.save_best='auto' means {measured[0]!r}, the first of "
                f'what val_evaluator measures ({", ".join(measured)}), and '
                'MMEngine does not know whether more of it is better. Set '
                f"{key}.rule='greater', or 'less', or name another one."
            ) from error


def check_measured(
    cfg: Config, model: nn.Module, name: str, split: str = 'val'
) -> None:
    """Refuse a metric that is not measured, where that is known.

    Args:
        cfg: The full config.
        model: What ``cfg.model`` builds.
        name: Of the metric, as in the log.
        split: ``'val'``, or ``'test'`` for that of the test.

    Raises:
        ValueError: If it is none of those, or they cannot be built.
    """
    measured = _measured(cfg, model, split)
    if measured is not None and name not in measured:
        raise ValueError(
            f'`metric`={name!r}: {split}_evaluator measures '
            f'{", ".join(measured)}. Set `metric` to one of these.'
        )


def _awaited(cfg: Config) -> Iterator[tuple[str, Any, str | None]]:
    """Yield key and value of arguments with each name that they hold.

    Where ``save_best`` leaves the name open, it is ``None``.
    """
    for key, entry, kind in (*hook_classes(cfg), *scheduler_classes(cfg)):
        for awaiting, (argument, default) in _AWAITED.items():
            if issubclass(kind, awaiting) and isinstance(entry, Mapping):
                value = entry.get(argument, default)
                names = [value] if isinstance(value, str) else value or ()
                for name in names:
                    is_open = argument == 'save_best' and name == 'auto'
                    yield f'{key}.{argument}', value, None if is_open else name


def _measured(
    cfg: Config, model: nn.Module, split: str = 'val'
) -> list[str] | None:
    """Return the names of the metrics of a split, if they can be known."""
    _, classes = classes_of(model)
    metrics = _metrics(cfg, split)
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
            raise ValueError(f'{split}_evaluator: {error}') from error


def _metrics(cfg: Config, split: str) -> list[Mapping[str, Any]]:
    """Return the configs of the metrics, none if one has unknown names."""
    scope = default_scope(cfg)
    evaluator, loop = cfg.get(f'{split}_evaluator'), cfg.get(f'{split}_cfg')
    stock = ValLoop if split == 'val' else TestLoop
    kind = loop.get('type', stock) if isinstance(loop, Mapping) else None
    metrics = evaluator
    if isinstance(evaluator, Mapping) and 'metrics' in evaluator:
        metrics = evaluator['metrics']
        name = evaluator.get('type', Evaluator)
        if resolve(name, scope, (EVALUATOR,)) is not Evaluator:
            return []
    if resolve(kind, scope, (LOOPS,)) is not stock:
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
