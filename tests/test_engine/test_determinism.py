# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Equal seeds give equal weights, bit for bit, however a run is executed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner

from ..config_runs import LEAVES
from ..tiny_data import use_tiny_data

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/reducenet/digits/reducenet8-w16-e4_digits_teacher.py'
REPRODUCIBLE = ROOT / 'configs/_base_/reproducible.py'

CROP_AND_FLIP = [
    dict(type='RandomCrop', crop_size=8, padding=1),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
SEEDED = [dict(type='SeedSample'), *CROP_AND_FLIP]
SMALL = {
    'train_cfg.max_epochs': 2,
    'train_cfg.val_interval': 2,
    'param_scheduler.periods': [2],
    'train_dataloader.batch_size': 32,
    'train_dataloader.dataset.indices': 96,
    'train_dataloader.dataset.pipeline': SEEDED,
    'val_dataloader.dataset.indices': 4,
    'model.backbone.base_channels': 4,
    'model.head.in_channels': 16,
    'default_hooks.checkpoint.interval': -1,
    'default_hooks.checkpoint.save_last': False,
}
RANDOM_STEPS = {
    'model.train_cfg.augments': [
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0),
    ],
    'model.head.type': 'StackedLinearClsHead',
    'model.head.mid_channels': [16],
    'model.head.dropout_rate': 0.5,
    'model.head.loss.use_soft': True,
}

Weights = dict[str, torch.Tensor]


def train(work_dir: Path, **options: Any) -> Weights:
    """Train on digits with all kinds of randomness; return what it leaves."""
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'{work_dir.parent.name}_{work_dir.name}'
    cfg.merge_from_dict({**SMALL, **options})
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner.model.state_dict()


def differing(first: Weights, second: Weights) -> list[str]:
    assert first.keys() == second.keys()
    return [k for k in first if not torch.equal(first[k], second[k])]


def largest_difference(first: Weights, second: Weights) -> float:
    return max(
        (first[k].double() - second[k].double()).abs().max().item()
        for k in first
    )


def test_weights_depend_on_the_seed_alone(tmp_path):
    expected = train(
        tmp_path / 'alone',
        **RANDOM_STEPS,
        **{'default_hooks.checkpoint.interval': 1},
    )
    for workers in (2, 4):
        settings = {
            'train_dataloader.num_workers': workers,
            'train_dataloader.persistent_workers': workers == 2,
            'train_cfg.val_interval': 1,
        }
        work_dir = tmp_path / f'workers{workers}'
        weights = train(work_dir, **RANDOM_STEPS, **settings)
        assert not differing(weights, expected)
    resumed = train(
        tmp_path / 'resumed',
        **RANDOM_STEPS,
        resume=True,
        load_from=str(tmp_path / 'alone' / 'epoch_1.pth'),
    )
    assert not differing(resumed, expected)
    other = train(tmp_path / 'other', **RANDOM_STEPS, **{'randomness.seed': 1})
    assert 'backbone.conv1.weight' in differing(other, expected)


@pytest.mark.parametrize('left_out', ['SeedSample', 'SeededStepHook'])
def test_each_part_is_needed(tmp_path, left_out):
    """Leave out one means: the number of workers matters then."""
    without = {
        'SeedSample': {'train_dataloader.dataset.pipeline': CROP_AND_FLIP},
        # Another hook, which changes nothing, takes its place.
        'SeededStepHook': {
            'default_hooks.seeded_step.type': 'DistSamplerSeedHook'
        },
    }[left_out]
    weights = [
        train(
            tmp_path / f'workers{workers}',
            **RANDOM_STEPS,
            **without,
            **{'train_dataloader.num_workers': workers},
        )
        for workers in (0, 1)
    ]
    assert differing(*weights)


@pytest.mark.skipif(get_device() != 'cpu', reason='gloo is for CPUs')
def test_two_processes_train_as_one_with_the_doubled_batch(tmp_path):
    options = {'model.backbone.norm_eval': True}
    one = train(tmp_path / 'one', **options)
    halves = {**options, 'train_dataloader.batch_size': 16}
    two = train_in_two_processes(tmp_path / 'two', halves)
    assert not differing(two[0], two[1])
    assert largest_difference(one, two[0]) < 1e-6
    options['train_dataloader.sampler.seed'] = 1
    other_order = train(tmp_path / 'other', **options)
    assert largest_difference(one, other_order) > 1e-3


def train_in_two_processes(work_dir: Path, options: dict) -> list[Weights]:
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({**SMALL, **options})
    cfg.custom_imports.imports.append('keep_weights')
    cfg.custom_hooks = [dict(type='KeepWeights')]
    work_dir.mkdir()
    cfg.dump(work_dir / 'config.py')
    (work_dir / 'keep_weights.py').write_text(KEEP_WEIGHTS)
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'torch.distributed.run', '--standalone'),
            *('--nproc_per_node=2', str(ROOT / 'tools' / 'train.py')),
            *(str(work_dir / 'config.py'), '--work-dir', str(work_dir)),
            *('--launcher', 'pytorch'),
        ],
        env={
            **os.environ,
            'PYTHONPATH': f'{ROOT}{os.pathsep}{work_dir}',
            'OMP_NUM_THREADS': '1',
        },
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(work_dir / f'rank{rank}.pth') for rank in (0, 1)]


KEEP_WEIGHTS = """
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class KeepWeights(Hook):
    def after_train(self, runner):
        assert get_world_size() == 2
        state = runner.model.module.state_dict()
        torch.save(state, f'{runner.work_dir}/rank{get_rank()}.pth')
"""


def test_an_mmpretrain_config_becomes_reproducible(tmp_path):
    """By the lines that the base file itself tells to write.

    Whatever the number of workers, and resumed from within an epoch.
    """
    text = REPRODUCIBLE.read_text(encoding='utf-8')
    lines = [line[4:] for line in text.splitlines() if line.startswith('#   ')]
    assert len(lines) < 10
    (tmp_path / 'mine.py').write_text('\n'.join(lines))
    (tmp_path / 'reproducible.py').write_text(text)
    weights = []
    resumed = dict(load_from=str(tmp_path / 'run0/iter_2.pth'), resume=True)
    for run, (workers, options) in enumerate([(0, {}), (2, {}), (0, resumed)]):
        cfg = use_tiny_data(Config.fromfile(tmp_path / 'mine.py'), tmp_path)
        assert cfg.train_dataloader.dataset.pipeline[1].type == 'RandomCrop'
        cfg.work_dir = str(tmp_path / f'run{run}')
        cfg.experiment_name = f'{tmp_path.name}_{run}'
        cfg.train_dataloader.update(num_workers=workers, batch_size=2)
        cfg.model.backbone.base_channels = 8
        cfg.model.backbone.stem_channels = 8
        cfg.model.head.in_channels = 64
        cfg.model.train_cfg = dict(augments=dict(type='Mixup', alpha=0.8))
        cfg.model.head.loss.use_soft = True
        cfg.train_cfg = dict(by_epoch=True, max_epochs=2)
        cfg.default_hooks.checkpoint.update(by_epoch=False, interval=2)
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.update(options)
        runner = Runner.from_cfg(cfg)
        runner.train()
        weights.append(runner.model.state_dict())
        assert runner.iter == 6
    for other in weights[1:]:
        assert not differing(weights[0], other)


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_our_configs_seed_training_and_nothing_else(path):
    cfg = Config.fromfile(path)
    sampler = cfg.train_dataloader.sampler
    assert (sampler.type, sampler.shuffle) == ('SeededSampler', True)
    assert cfg.default_hooks.seeded_step.type == 'SeededStepHook'
    for field in ('train', 'val', 'test'):
        outer = cfg[f'{field}_dataloader'].dataset
        pipeline = outer.get('dataset', outer).pipeline
        seeded = [step.type == 'SeedSample' for step in pipeline]
        assert seeded == [field == 'train', *[False] * (len(pipeline) - 1)]
    for field in ('val', 'test'):
        sampler = cfg[f'{field}_dataloader'].sampler
        assert (sampler.type, sampler.shuffle) == ('DefaultSampler', False)
