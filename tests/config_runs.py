# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The configs that MMPretrain alone runs, each for one iteration."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from .tiny_data import use_tiny_data

CONFIGS = Path(__file__).parents[1] / 'configs'
# Run by tests/test_dense, with MMDetection and MMSegmentation, and by
# tests/test_configs_grafted.py.
ELSEWHERE = ('detection', 'segmentation', 'grafted')
LEAVES = sorted(
    path
    for path in (CONFIGS / 'reducenet').glob('*/*.py')
    if path.parent.name not in ELSEWHERE
)
SHAPES = {
    'digits': (1, 8, 8),
    'fashion-mnist': (1, 28, 28),
    'cifar10': (3, 32, 32),
    'cifar100': (3, 32, 32),
    'imagenet': (3, 224, 224),
}
CLASSES = {'cifar100': 100, 'imagenet': 1000}


@functools.cache
def read(path: Path) -> Config:
    return Config.fromfile(path)


def load(path: Path) -> Config:
    return copy.deepcopy(read(path))


def stem(path: Path) -> str:
    return path.stem


class Record(Hook):
    """Keep what goes into and comes out of each iteration."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Any]] = {}

    def _add(self, name: str, batch: dict, outputs: Any) -> None:
        self.seen.setdefault(name, []).append((batch['inputs'], outputs))

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self._add('train', data_batch, outputs)

    def after_val_iter(self, runner, batch_idx, data_batch, outputs):
        self._add('val', data_batch, outputs)

    def after_test_iter(self, runner, batch_idx, data_batch, outputs):
        self._add('test', data_batch, outputs)


def prepare(path: Path, tmp_path: Path) -> Config:
    """The config for one training iteration on a few images."""
    cfg = use_tiny_data(load(path), tmp_path)
    cfg.work_dir = str(tmp_path / 'work_dir')
    cfg.experiment_name = f'{path.stem}_{tmp_path.name}'
    cfg.train_cfg.max_epochs = 1
    cfg.param_scheduler.periods = [1]
    for key in ('teacher_ckpt', 'student_init'):
        if key in cfg.model:  # both of the architecture without `lora`
            backbone = dict(cfg.model.architecture.backbone, lora=None)
            network = MODELS.build(
                dict(cfg.model.architecture, backbone=backbone)
            )
            network.init_weights()
            cfg.model[key] = str(tmp_path / f'{key}.pth')
            torch.save(dict(state_dict=network.state_dict()), cfg.model[key])
    return cfg


def run(cfg: Config) -> tuple[Runner, dict[str, list[Any]]]:
    runner = Runner.from_cfg(cfg)
    record = Record()
    runner.register_hook(record)
    runner.train()
    runner.test()
    return runner, record.seen
