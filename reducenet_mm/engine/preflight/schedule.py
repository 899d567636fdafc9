# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Whether the learning rate falls as long as the training is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.optim import scheduler as schedulers
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.registry import PARAM_SCHEDULERS

from .entries import iter_optimizing


class _Part(NamedTuple):
    """One scheduler of the learning rate.

    Attributes:
        end: When it has done its work, in epochs or iterations.
        key: What in its config says so, ``None`` if nothing does: it follows
            the length of the training, or never ends.
        value: The value of ``key``.
    """

    end: int
    key: str | None = None
    value: Any = None


def schedule_warning(cfg: Config) -> str | None:
    """Say so if learning rate and training do not end together.

    Only the last scheduler of the learning rate counts, and only if it falls
    steadily to its end (cosines, ``PolyLR``, a falling ``LinearLR``,
    ``OneCycleLR``), in the unit of the training, epochs or iterations.

    Returns:
        What to log, or ``None`` if nothing is wrong or known.
    """
    loop = cfg.get('train_cfg') or {}
    unit = 'epochs' if loop.get('max_epochs') else 'iters'
    length = loop.get(f'max_{unit}')
    if not length:
        return None
    parts = _parts(cfg, unit == 'epochs', length)
    last = max(parts, key=lambda part: part.end, default=None)
    if last is None or last.key is None or last.end == length:
        return None
    what = (
        'the training ends before the learning rate has fallen'
        if last.end > length
        else 'training goes on when the learning rate has fallen'
    )
    return (
        f'{last.key}={last.value} lets the learning rate fall until '
        f'{last.end} {unit}, but train_cfg.max_{unit}={length}: {what}. '
        'If this is not meant, let both end together.'
    )


def scheduler_classes(cfg: Config) -> Iterator[tuple[str, Mapping, type]]:
    """Yield key, entry and class of each scheduler that a config names.

    Passed over are those of several optimizers, and what is built already.
    """
    for entry in iter_optimizing(cfg):
        if entry.root is PARAM_SCHEDULERS and isinstance(entry.target, type):
            yield entry.key, entry.cfg, entry.target


def _parts(cfg: Config, by_epoch: bool, length: int) -> Iterator[_Part]:
    for key, entry, kind in scheduler_classes(cfg):
        is_rate = issubclass(kind, LRSchedulerMixin)
        if is_rate and entry.get('by_epoch', True) == by_epoch:
            yield _part(kind, entry, key, length)


def _part(kind: Any, entry: Mapping, key: str, length: int) -> _Part:
    begin, end = entry.get('begin', 0), entry.get('end', length)
    if issubclass(kind, schedulers.CosineRestartLR):
        periods = entry.get('periods') or [length]
        return _Part(begin + sum(periods), f'{key}.periods', periods)
    if issubclass(kind, schedulers.OneCycleLR) and 'total_steps' in entry:
        steps = entry['total_steps']
        return _Part(begin + steps, f'{key}.total_steps', steps)
    if issubclass(kind, schedulers.CosineAnnealingLR) and entry.get('T_max'):
        t_max = entry['T_max']
        # After several half waves; or as long as the training, but for a
        # warm-up that was forgotten.
        falls = (length - begin) % (2 * t_max) == t_max or t_max == length
        # Or its end is what the last step has, which is counted from 0.
        if falls or begin + t_max == length - 1:
            return _Part(length)
        if 'end' in entry and end < begin + t_max:
            return _Part(end, f'{key}.end', end)
        return _Part(begin + t_max, f'{key}.T_max', t_max)
    falling = (schedulers.CosineAnnealingLR, schedulers.PolyLR)
    if issubclass(kind, falling) or (
        issubclass(kind, schedulers.LinearLR)
        and entry.get('end_factor', 1.0) < entry.get('start_factor', 1 / 3)
    ):
        return _Part(length if end == length - 1 else end, f'{key}.end', end)
    return _Part(end)
