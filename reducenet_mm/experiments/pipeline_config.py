# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Pipeline configs: which stages and controls to run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

PIPELINE_KEYS = {'seed', 'stages', 'controls', 'cfg_options', 'metric'}
STAGE_KEYS = {'name', 'config', 'cfg_options', 'epochs'}
CONTROL_KEYS = {'name', 'config', 'cfg_options', 'restart_at'}
SET_BY_PIPELINE = {
    'load_from',
    'model.teacher_ckpt',
    'randomness.seed',
    'resume',
    'work_dir',
}
"""Training options that a pipeline decides itself."""


@dataclass(frozen=True)
class Entry:
    """One training run: a stage or a control.

    Attributes:
        name: Unique in the pipeline; also the name of its folder.
        config: Training config.
        cfg_options: Overrides of it, by dotted key.
        epochs: Length of a stage if not the config's own.
        restart_at: Name of the stage at whose start a control's learning
            rate restarts.
    """

    name: str
    config: Path
    cfg_options: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    restart_at: str | None = None


@dataclass(frozen=True)
class Pipeline:
    """A pipeline config, checked.

    Attributes:
        source: The config file.
        seed: Seed of all runs.
        stages: Runs of which each starts from the one before.
        controls: Independent runs at the stages' total cost.
        metric: The logged metric, in percent, that curves and table show.
    """

    source: Path
    seed: int
    stages: tuple[Entry, ...]
    controls: tuple[Entry, ...]
    metric: str


def read_pipeline(
    path: str | Path, options: Mapping[str, Any] | None = None
) -> Pipeline:
    """Read and check a pipeline config.

    Args:
        path: The config file; paths in it are relative to its folder.
        options: Overrides by dotted key, such as ``stages.0.epochs``.

    Raises:
        FileNotFoundError: If it or a config that it names is not there.
        ValueError: If a key or value in it is wrong.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(
            f'no pipeline config {str(path)!r} (argument PIPELINE_CONFIG).'
        )
    cfg = Config.fromfile(source)
    cfg.merge_from_dict(dict(options or {}))
    content = cfg.to_dict()
    check_keys('the pipeline config', content, PIPELINE_KEYS)
    common = flatten(content.get('cfg_options') or {})
    stages = _entries(source, 'stages', content, STAGE_KEYS, common)
    controls = _entries(source, 'controls', content, CONTROL_KEYS, common)
    _check_names(stages, controls)
    return Pipeline(
        source=source,
        seed=checked_int('seed', content.get('seed', 0), 0),
        stages=stages,
        controls=controls,
        metric=str(content.get('metric', 'accuracy/top1')),
    )


def flatten(options: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Turn nested dicts into one of dotted keys, as --cfg-options has."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f'{prefix}{key}.'))
        else:
            flat[f'{prefix}{key}'] = value
    return flat


def _entries(
    source: Path,
    group: str,
    content: Mapping[str, Any],
    known: set[str],
    common: Mapping[str, Any],
) -> tuple[Entry, ...]:
    raw = content.get(group, [])
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        raise ValueError(f'`{group}` must be a list of dicts, got {raw!r}.')
    if group == 'stages' and not raw:
        raise ValueError('`stages` is empty: give at least one dict.')
    return tuple(
        _entry(source, f'{group}[{index}]', item, known, common)
        for index, item in enumerate(raw)
    )


def _entry(
    source: Path,
    where: str,
    item: Any,
    known: set[str],
    common: Mapping[str, Any],
) -> Entry:
    if not isinstance(item, Mapping):
        raise ValueError(f'`{where}` must be a dict, got {item!r}.')
    check_keys(f'`{where}`', item, known)
    for key in ('name', 'config'):
        if not isinstance(item.get(key), str):
            raise ValueError(
                f'`{where}.{key}` must be a string, got {item.get(key)!r}.'
            )
    if not re.fullmatch(r'[A-Za-z0-9][\w.-]*', item['name']):
        raise ValueError(
            f'`{where}.name` also names a folder: use letters, digits, '
            f"'_', '-' and '.', got {item['name']!r}."
        )
    config = Path(os.path.normpath(source.parent / item['config']))
    if not config.is_file():
        raise FileNotFoundError(
            f'`{where}.config`={item["config"]!r} is not there: {config} '
            f'(relative to the pipeline config {source}).'
        )
    options = {**common, **flatten(item.get('cfg_options') or {})}
    taken = sorted(SET_BY_PIPELINE & set(options))
    if taken:
        raise ValueError(
            f'`{where}.cfg_options` sets {taken}, which the pipeline '
            'decides. Remove it; the seed is the pipeline`s `seed`.'
        )
    epochs = item.get('epochs')
    if epochs is not None:
        checked_int(f'{where}.epochs', epochs, 1)
    return Entry(item['name'], config, options, epochs, item.get('restart_at'))


def _check_names(stages: Sequence[Entry], controls: Sequence[Entry]) -> None:
    names = [entry.name for entry in (*stages, *controls)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f'`name` must differ among stages and controls, got {twice} '
            'more than once.'
        )
    later = [stage.name for stage in stages[1:]]
    for index, control in enumerate(controls):
        if control.restart_at is not None and control.restart_at not in later:
            raise ValueError(
                f'`controls[{index}].restart_at` must name a stage after '
                f'the first one ({later}), got {control.restart_at!r}.'
            )


def check_keys(where: str, item: Mapping[str, Any], known: set[str]) -> None:
    """Raise ``ValueError`` if ``item`` has a key that is not ``known``."""
    unknown = sorted(set(item) - known)
    if unknown:
        raise ValueError(
            f'{where} has unknown keys {unknown}; known are {sorted(known)}.'
        )


def checked_int(key: str, value: Any, least: int) -> int:
    """Return ``value``; ``ValueError`` unless it is an int >= ``least``."""
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if not is_int or value < least:
        raise ValueError(
            f'`{key}` must be an integer >= {least}, got {value!r}.'
        )
    return value
