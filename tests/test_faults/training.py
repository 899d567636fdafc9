# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A training of seconds, for something to go wrong in."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/reducenet/digits/reducenet8-w16-e4_digits_teacher.py'
STUDENT = CONFIG.with_name(CONFIG.name.replace('teacher', 'student'))
TRAIN_TOOL, TEST_TOOL = ROOT / 'tools/train.py', ROOT / 'tools/test.py'
SMALL = {
    'train_dataloader.batch_size': 32,
    'train_dataloader.dataset.indices': 96,
    'val_dataloader.dataset.indices': 10,
    'train_cfg.val_interval': 1,
    'default_hooks.checkpoint.interval': 1,
}
STEPS = 3
"""Steps of an epoch."""
NARROW = {'backbone.base_channels': 4, 'head.in_channels': 16}
MODEL = {f'model.{key}': value for key, value in NARROW.items()}
STUDENT_MODEL = {
    f'model.architecture.{key}': value for key, value in NARROW.items()
}


def settings(epochs: int) -> dict[str, Any]:
    """Options of a small training."""
    return {
        **SMALL,
        'train_cfg.max_epochs': epochs,
        'param_scheduler.periods': [epochs],
    }


def small_cfg(work_dir: Path, epochs: int, **options: Any) -> Config:
    """Config of a small teacher's training."""
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'{work_dir.parent.name}_{work_dir.name}'
    cfg.merge_from_dict({**settings(epochs), **MODEL, **options})
    return cfg


def train(cfg: Config) -> Runner:
    """Train, and return the Runner."""
    runner = Runner.from_cfg(cfg)
    try:
        runner.train()
    finally:
        # After an error Python's garbage collector would do it, slowly.
        workers = getattr(runner.train_dataloader, '_iterator', None)
        if workers is not None:
            workers._shutdown_workers()
    return runner


def run_tool(tool: Path, *arguments: object, **options: Any) -> None:
    """Run a tool in this process."""
    argv = [str(argument) for argument in arguments]
    runpy.run_path(str(tool))['main'](argv + arguments_of(options))


def arguments_of(options: Mapping[str, Any]) -> list[str]:
    """Options as words of a command line."""
    words = [
        f'{key}={value}'.replace(' ', '') for key, value in options.items()
    ]
    return ['--cfg-options', *words] if words else []


def train_teacher(
    work_dir: Path, epochs: int, *arguments: object, **options: Any
) -> None:
    """Train a small teacher by the training tool, in this process."""
    options = {**settings(epochs), **MODEL, **options}
    run_tool(TRAIN_TOOL, CONFIG, '--work-dir', work_dir, *arguments, **options)


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint file."""
    return torch.load(path, map_location='cpu')['state_dict']


def logged(work_dir: Path) -> str:
    """All that the sessions of a run have logged."""
    logs = sorted(work_dir.glob('*/*.log'))
    return '\n'.join(log.read_text() for log in logs)


def same_weights(first: Path, second: Path) -> bool:
    """Whether two checkpoint files hold the same weights, bit for bit."""
    ours, theirs = weights(first), weights(second)
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[key]) for key, value in ours.items()
    )
