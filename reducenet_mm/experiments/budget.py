# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The same total of training multiply-adds, in whole epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

SCHEDULE = 'CosineRestartLR'


def matched_epochs(budget: float, per_epoch: float) -> tuple[int, float]:
    """Return how many whole epochs come closest to ``budget``.

    Args:
        budget: Training multiply-adds to spend.
        per_epoch: Training multiply-adds of one epoch.

    Returns:
        The number of epochs, at least 1, and what they cost as a multiple
        of ``budget``.

    Raises:
        ValueError: If one of the costs is not positive.
    """
    if budget <= 0 or per_epoch <= 0:
        raise ValueError(
            f'costs must be positive, got budget={budget} and '
            f'per_epoch={per_epoch} multiply-adds.'
        )
    epochs = max(1, round(budget / per_epoch))
    return epochs, epochs * per_epoch / budget


def restart_periods(epochs: int, before: float, total: float) -> list[int]:
    """Split a schedule where a stage begins, in proportion to cost.

    Args:
        epochs: Length of the whole schedule, at least 2.
        before: Training multiply-adds before that stage.
        total: Training multiply-adds of all stages.

    Returns:
        ``[n1, epochs - n1]``, both at least 1.

    Raises:
        ValueError: If the schedule is too short, or nothing is before the
            stage.
    """
    if epochs < 2:
        raise ValueError(
            'a restart needs a control of at least 2 epochs, got '
            f'{epochs}: the budget is too small. Train the stages longer.'
        )
    if not 0 < before < total:
        raise ValueError(
            f'a restart after {before:.3g} of {total:.3g} multiply-adds is '
            'none. Let `restart_at` name a stage with others before it, or '
            '`restart_after` an arm that costs more than this one needs and '
            'less than it has.'
        )
    first = min(max(1, round(epochs * before / total)), epochs - 1)
    return [first, epochs - first]


def schedule_options(cfg: Config, periods: Sequence[int]) -> dict[str, Any]:
    """Return the config options that make a run ``sum(periods)`` long.

    Args:
        cfg: A training config whose ``param_scheduler`` has one
            ``CosineRestartLR`` by epoch, perhaps after a warm-up.
        periods: Epochs from each start of the cosine to its end; a warm-up
            counts as a part of the first one. An ``end`` of the schedule
            becomes theirs.

    Returns:
        Values by dotted key, to be merged into ``cfg``.

    Raises:
        ValueError: If there is no such schedule.
    """
    schedulers = cfg.get('param_scheduler')
    is_list = not isinstance(schedulers, Mapping)
    entries = list(schedulers or ()) if is_list else [schedulers]
    options: dict[str, Any] = {'train_cfg.max_epochs': sum(periods)}
    for index, entry in enumerate(entries):
        kind = entry['type']
        name = kind if isinstance(kind, str) else kind.__name__
        if name.rpartition('.')[2] != SCHEDULE:
            continue
        first = periods[0] - int(entry.get('begin', 0))
        if first < 1 or not entry.get('by_epoch', True):
            break
        key = f'param_scheduler.{index}' if is_list else 'param_scheduler'
        options[f'{key}.periods'] = [first, *periods[1:]]
        options[f'{key}.restart_weights'] = [1] * len(periods)
        if entry.get('end') is not None:
            options[f'{key}.end'] = sum(periods)
    if len(options) == 1:
        raise ValueError(
            f'a run of {list(periods)} epochs needs a {SCHEDULE} with '
            'by_epoch=True that begins in its first period; got '
            f'param_scheduler={[dict(entry) for entry in entries]}.'
        )
    return options
