# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Pipeline configs: which stages and controls to run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reducenet_mm.engine.config_file import read_config
from reducenet_mm.plain_numbers import checked_int
from reducenet_mm.seeds import MOST_SEED

from ..checks import check_entry, check_keys, checked_config, read_options
from .saturation import Until

PIPELINE_KEYS = {
    'seed',
    'stages',
    'controls',
    'cfg_options',
    'metric',
    'until',
}
STAGE_KEYS = {'name', 'config', 'cfg_options', 'epochs', 'load_from'}
CONTROL_KEYS = {'name', 'config', 'cfg_options', 'restart_at'}
SET_BY_PIPELINE = {
    'load_from',
    'model.student_init',
    'model.teacher_ckpt',
    'randomness.seed',
    'resume',
    'work_dir',
}
"""Training options that a pipeline decides itself."""
ROLES = {'student', 'teacher'}
"""What reports call the pipeline's own networks."""


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
        load_from: Name of an earlier stage whose network this stage grows:
            it starts with all of that one's weights.
    """

    name: str
    config: Path
    cfg_options: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    restart_at: str | None = None
    load_from: str | None = None


@dataclass(frozen=True)
class Pipeline:
    """A pipeline config, checked.

    Attributes:
        source: The config file.
        seed: Seed of all runs.
        stages: Runs of which each starts from the one before, or, with
            ``until``, from the best student before it.
        controls: Independent runs at the stages' total cost.
        metric: The logged metric, in percent (0 to 100), that curves and
            table show and ``until`` chooses by.
        until: When the student counts as saturated; None runs every stage.
    """

    source: Path
    seed: int
    stages: tuple[Entry, ...]
    controls: tuple[Entry, ...]
    metric: str
    until: Until | None = None


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
    content = read_config(str(source), options).to_dict()
    check_keys('the pipeline config', content, PIPELINE_KEYS)
    common = read_options('cfg_options', content.get('cfg_options'))
    stages = _entries(source, 'stages', content, STAGE_KEYS, common)
    controls = _entries(source, 'controls', content, CONTROL_KEYS, common)
    _check_names(stages, controls)
    return Pipeline(
        source=source,
        seed=checked_int('seed', content.get('seed', 0), 0, MOST_SEED),
        stages=stages,
        controls=controls,
        metric=str(content.get('metric', 'accuracy/top1')),
        until=Until.from_config(content.get('until')),
    )


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
    check_entry(where, item, known)
    name = item.get('name')
    if not isinstance(name, str):
        raise ValueError(f'`{where}.name` must be a string, got {name!r}.')
    if not re.fullmatch(r'[A-Za-z0-9][\w.-]*', name):
        raise ValueError(
            f'`{where}.name` also names a folder: use letters, digits, '
            f"'_', '-' and '.', got {name!r}."
        )
    config = checked_config(where, item, source, 'pipeline')
    options = {
        **common,
        **read_options(f'{where}.cfg_options', item.get('cfg_options')),
    }
    taken = sorted(SET_BY_PIPELINE & set(options))
    if taken:
        raise ValueError(
            f'`{where}.cfg_options` sets {taken}, which the pipeline '
            'decides. Remove it; the seed is the pipeline`s `seed`.'
        )
    epochs = item.get('epochs')
    if epochs is not None:
        checked_int(f'{where}.epochs', epochs, 1)
    return Entry(
        name=name,
        config=config,
        cfg_options=options,
        epochs=epochs,
        restart_at=item.get('restart_at'),
        load_from=item.get('load_from'),
    )


def _check_names(stages: Sequence[Entry], controls: Sequence[Entry]) -> None:
    names = [entry.name for entry in (*stages, *controls)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f'`name` must differ among stages and controls, got {twice} '
            'more than once.'
        )
    for index, stage in enumerate(stages):
        earlier = [other.name for other in stages[:index]]
        if stage.load_from is not None and stage.load_from not in earlier:
            raise ValueError(
                f'`stages[{index}].load_from` must name a stage before it '
                f'({earlier}), got {stage.load_from!r}.'
            )
    later = [stage.name for stage in stages[1:]]
    for index, control in enumerate(controls):
        if control.name in ROLES:
            raise ValueError(
                f'`controls[{index}].name`={control.name!r} is what reports '
                "call one of the pipeline's own networks. Choose another."
            )
        if control.restart_at is not None and control.restart_at not in later:
            raise ValueError(
                f'`controls[{index}].restart_at` must name a stage after '
                f'the first one ({later}), got {control.restart_at!r}.'
            )
