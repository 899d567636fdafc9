# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Training with a teacher, in two stages or at once, depends on seeds alone.

Also what is drawn beside the steps: norms that are recalibrated on training
images, and the networks in between of the sandwich.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from reducenet_mm.models.supernet import student_norms
from tests.test_engine.test_determinism import SMALL, Weights, differing

CONFIGS = 'configs/reducenet/digits/reducenet8-w16-e4_digits_'


@HOOKS.register_module()
class KeepNorms(Hook):
    """Keep the norm statistics that the first step starts from."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        student = runner.model.architecture
        self.means = torch.cat(
            [norm.running_mean.clone() for _, norm in student_norms(student)]
        )


def small_cfg(name: str, work_dir: Path, **options: Any) -> Config:
    """Config for 2 epochs of 3 steps, in batches of 32 images."""
    cfg = Config.fromfile(f'{CONFIGS}{name}.py')
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'{work_dir.parent.name}_{work_dir.name}'
    small = {
        key.replace('model.', 'model.architecture.'): value
        for key, value in SMALL.items()
    }
    cfg.merge_from_dict({**small, **options})
    return cfg


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    """Checkpoint of a teacher that has not been trained."""
    cfg = small_cfg('student', tmp_path / 'teacher')
    network = MODELS.build(cfg.model.architecture)
    network.init_weights()
    torch.save(dict(state_dict=network.state_dict()), tmp_path / 'teacher.pth')
    return str(tmp_path / 'teacher.pth')


def assert_seed_alone(runs: dict[str, Weights]) -> None:
    assert not differing(runs['0 workers'], runs['2 workers'])
    name = 'architecture.backbone.conv1.weight'
    assert name in differing(runs['0 workers'], runs['another seed'])


WAYS: dict[str, dict[str, Any]] = {
    '0 workers': {},
    '2 workers': {'train_dataloader.num_workers': 2},
    'another seed': {'randomness.seed': 1},
}


def test_a_recalibrated_student(tmp_path: Path, teacher: str) -> None:
    """Statistics are of augmented images: 2 of the 3 batches of an epoch."""
    ends, means = {}, {}
    for way, options in WAYS.items():
        cfg = small_cfg(
            'student',
            tmp_path / way,
            **options,
            **{
                'model.teacher_ckpt': teacher,
                'model.norm_stats': 'recalibrated',
                'custom_hooks': [
                    dict(type='SupernetSwitchHook', recalib_samples=64),
                    dict(type='KeepNorms'),
                ],
            },
        )
        runner = Runner.from_cfg(cfg)
        runner.train()
        ends[way] = runner.model.state_dict()
        (kept,) = (h for h in runner.hooks if isinstance(h, KeepNorms))
        means[way] = kept.means
    assert_seed_alone(ends)
    # The teachers are the same: the images are others.
    assert torch.equal(means['0 workers'], means['2 workers'])
    assert not torch.equal(means['0 workers'], means['another seed'])


def test_the_sandwich(tmp_path: Path) -> None:
    ends = {}
    for way, options in WAYS.items():
        cfg = small_cfg('inplace-sandwich', tmp_path / way, **options)
        runner = Runner.from_cfg(cfg)
        runner.train()
        ends[way] = runner.model.state_dict()
    assert_seed_alone(ends)
