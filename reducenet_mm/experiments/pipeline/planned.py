# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A planned training run, and its config as the process will read it.

Every part of a pipeline handles these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from reducenet_mm.engine.config_file import read_config

from ..cost import TrainingCost
from ..processes import RunFailed
from ..records import content_hash


@dataclass(frozen=True)
class Run:
    """One training run, ready to be started.

    Attributes:
        name: Unique in the pipeline.
        role: ``'teacher'``, ``'student'`` (a distillation stage),
            ``'plain'`` (a network that a teacher grows from) or
            ``'control'``.
        config: Training config.
        options: Overrides of it, by dotted key.
        cfg: Both merged; no checkpoint is named in it.
        work_dir: Folder of the run.
        epochs: Its length, at most.
        cost: Of one epoch.
        budget_ratio: Its cost as a multiple of the stages' total; of
            controls only.
        periods: A control's epochs from restart to restart.
        load_from: Name of the earlier run whose network this one grows.
        may_end_early: Whether it may end before its last epoch.
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
    load_from: str | None = None
    may_end_early: bool = False

    @property
    def multiply_adds(self) -> float:
        """Training multiply-adds of all its epochs."""
        return self.epochs * self.cost.per_epoch


def read_run_config(config: Path, options: Mapping[str, Any]) -> Config:
    """Read a training config with overrides; it names no teacher."""
    cfg = read_config(str(config), options)
    if 'architecture' in cfg.get('model', {}):
        cfg.model.teacher_ckpt = None
    return cfg


def check_unchanged(
    config: Path, options: Mapping[str, Any], cfg: Config
) -> None:
    """Raise ``RunFailed`` if a config file is no longer what was planned.

    The process that is about to start reads it again.

    Args:
        config: The file.
        options: Overrides of it, by dotted key.
        cfg: Both merged when the pipeline was planned.
    """
    try:
        now = content_hash(read_run_config(config, options).to_dict())
    except (FileNotFoundError, ValueError) as error:
        raise RunFailed(str(error)) from error
    if now != content_hash(cfg.to_dict()):
        raise RunFailed(
            f'{config} has changed since this command was started, and with '
            'it what was planned and what it costs. Start the command again: '
            'what no longer fits is set aside and done anew. If nobody has '
            'edited it, a value in it (a date, say) is another each time: '
            'write a fixed one.'
        )
