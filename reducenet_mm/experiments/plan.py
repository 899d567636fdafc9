# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The plan of a pipeline: every run with its length and its cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .budget import matched_epochs, restart_periods, schedule_options
from .cost import TrainingCost, measure_training
from .pipeline_config import Entry, Pipeline
from .processes import option_arguments


@dataclass(frozen=True)
class Run:
    """One training run, ready to be started.

    Attributes:
        name: Unique in the pipeline.
        role: ``'teacher'``, ``'student'`` (a distillation stage) or
            ``'control'``.
        config: Training config.
        options: Overrides of it, by dotted key.
        cfg: Both merged; no checkpoint is named in it.
        work_dir: Folder of the run.
        epochs: Its length.
        cost: Of one epoch.
        budget_ratio: Its cost as a multiple of the stages' total; of
            controls only.
        periods: A control's epochs from restart to restart.
    """

    name: str
    role: str
    config: Path
    options: dict[str, Any]
    cfg: Config
    work_dir: Path
    epochs: int
    cost: TrainingCost
    budget_ratio: float | None = None
    periods: tuple[int, ...] = ()

    @property
    def multiply_adds(self) -> float:
        """Training multiply-adds of the whole run."""
        return self.epochs * self.cost.per_epoch


def plan_runs(pipeline: Pipeline, work_dir: Path) -> list[Run]:
    """Build and measure every run of a pipeline: stages, then controls.

    Args:
        pipeline: The pipeline.
        work_dir: Its work dir; each run gets ``runs/<name>`` in it.

    Raises:
        FileNotFoundError: If a data set is not there.
        ValueError: If a config cannot take part as it is meant to.
    """
    option_arguments({'model.teacher_ckpt': str(work_dir)})
    stages: list[Run] = []
    for entry in pipeline.stages:
        with _named(entry):
            stages.append(_plan_stage(entry, pipeline, work_dir))
    _check_stages(stages)
    controls: list[Run] = []
    for entry in pipeline.controls:
        with _named(entry):
            run = _plan_control(entry, pipeline, work_dir, stages)
        controls.append(run)
    return stages + controls


@contextmanager
def _named(entry: Entry) -> Iterator[None]:
    """Say in an error which stage or control it is about."""
    where = f'{entry.name} ({entry.config})'
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{where}: {error}') from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{where}: {error}') from error


def _plan_stage(entry: Entry, pipeline: Pipeline, work_dir: Path) -> Run:
    options = _base_options(entry, pipeline)
    cfg = _merged(entry, options)
    if entry.epochs is not None:
        options.update(schedule_options(cfg, [entry.epochs]))
        cfg = _merged(entry, options)
    is_student = 'architecture' in cfg.model
    return Run(
        name=entry.name,
        role='student' if is_student else 'teacher',
        config=entry.config,
        options=options,
        cfg=cfg,
        work_dir=work_dir / 'runs' / entry.name,
        epochs=run_epochs(cfg),
        cost=measure_training(cfg),
    )


def _plan_control(
    entry: Entry, pipeline: Pipeline, work_dir: Path, stages: Sequence[Run]
) -> Run:
    options = _base_options(entry, pipeline)
    cfg = _merged(entry, options)
    if 'architecture' in cfg.model:
        raise ValueError(
            'this config needs a teacher (model.teacher_ckpt); a control '
            'must be an ordinary training.'
        )
    cost = measure_training(cfg)
    total = sum(stage.multiply_adds for stage in stages)
    epochs, ratio = matched_epochs(total, cost.per_epoch)
    periods = [epochs]
    if entry.restart_at is not None:
        names = [stage.name for stage in stages]
        earlier = stages[: names.index(entry.restart_at)]
        before = sum(stage.multiply_adds for stage in earlier)
        periods = restart_periods(epochs, before, total)
    options.update(schedule_options(cfg, periods))
    return Run(
        name=entry.name,
        role='control',
        config=entry.config,
        options=options,
        cfg=_merged(entry, options),
        work_dir=work_dir / 'runs' / entry.name,
        epochs=epochs,
        cost=cost,
        budget_ratio=ratio,
        periods=tuple(periods),
    )


def _base_options(entry: Entry, pipeline: Pipeline) -> dict[str, Any]:
    options = {**entry.cfg_options, 'randomness.seed': pipeline.seed}
    option_arguments(options)
    return options


def _merged(entry: Entry, options: dict[str, Any]) -> Config:
    cfg = Config.fromfile(entry.config)
    cfg.merge_from_dict(options)
    if 'architecture' in cfg.get('model', {}):
        cfg.model.teacher_ckpt = None
    return cfg


def run_epochs(cfg: Config) -> int:
    """Return how many epochs a config trains.

    Raises:
        ValueError: If it trains by iterations.
    """
    train_cfg = cfg.get('train_cfg') or {}
    epochs = train_cfg.get('max_epochs')
    if not train_cfg.get('by_epoch', True) or not isinstance(epochs, int):
        raise ValueError(
            'every run here trains by epochs; set train_cfg=dict('
            f'by_epoch=True, max_epochs=N), got {dict(train_cfg)}.'
        )
    return epochs


def _check_stages(stages: Sequence[Run]) -> None:
    roles = [stage.role for stage in stages]
    if roles[0] != 'teacher' or roles[-1] != 'student':
        raise ValueError(
            'the first stage must train a teacher (an ordinary config) and '
            'the last one a student (model.type=SupernetDistill), got '
            f'{dict((stage.name, stage.role) for stage in stages)}.'
        )
