# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What training steps draw and which images they see, in real Runners."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from mmpretrain.datasets.samplers import RepeatAugSampler
from torch.utils.data import DataLoader

from reducenet_mm.engine.hooks import SeededStepHook
from reducenet_mm.engine.hooks.seeded_step_hook import SAMPLER_SEED
from reducenet_mm.seeds import mix_seeds

CONFIG = 'configs/reducenet/digits/reducenet8-w16-e4_digits_teacher.py'


def draw() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(()).item()


class Watch(Hook):
    """Record what each step could draw and the images that it gets."""

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.draws: list[tuple[float, float, float]] = []
        self.images: list[list[int]] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.draws.append(draw())
        samples = data_batch['data_samples']
        self.images.append([sample.sample_idx for sample in samples])


class Disturb(Hook):
    """Draw numbers between the steps."""

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        draw()

    def after_val_epoch(self, runner, metrics=None):
        draw()


class SharedHub(Hook):
    """Find what a run of the same name, begun in the same second, left."""

    def before_run(self, runner):
        runner.message_hub.update_info(SAMPLER_SEED, 5)


def run(work_dir: Path, *hooks: Hook, **options: Any) -> tuple[Runner, Watch]:
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(work_dir)
    cfg.merge_from_dict(
        {
            'experiment_name': f'{work_dir.parent.name}_{work_dir.name}',
            'train_cfg.max_epochs': 2,
            'train_cfg.val_interval': 9,
            'param_scheduler.periods': [2],
            'train_dataloader.batch_size': 8,
            'train_dataloader.dataset.indices': 24,
            'val_dataloader.dataset.indices': 4,
            'model.backbone.base_channels': 4,
            'model.head.in_channels': 16,
            'default_hooks.checkpoint.interval': -1,
            'default_hooks.checkpoint.save_last': False,
            **options,
        }
    )
    runner = Runner.from_cfg(cfg)
    watch = Watch()
    for hook in (watch, *hooks):
        runner.register_hook(hook)
    runner.train()
    return runner, watch


def expected_draws(seed: int, iteration: int, rank: int = 0):
    for_python, for_numpy, for_torch = mix_seeds('step', seed, iteration, rank)
    generator = torch.Generator().manual_seed(for_torch)
    return (
        random.Random(for_python).random(),
        np.random.RandomState(for_numpy).rand(),
        torch.rand((), generator=generator).item(),
    )


def test_a_step_draws_by_seed_iteration_and_rank(tmp_path, monkeypatch):
    runner, watch = run(tmp_path / 'run', **{'randomness.seed': 3})
    assert watch.draws == [expected_draws(3, step) for step in range(6)]
    module = 'reducenet_mm.engine.hooks.seeded_step_hook'
    monkeypatch.setattr(f'{module}.get_rank', lambda: 1)
    SeededStepHook().before_train_iter(runner, 0)
    second = draw()
    assert second == expected_draws(3, 6, rank=1)
    every = [*watch.draws, second, expected_draws(4, 0)]
    assert len({number for draws in every for number in draws}) == 24


def test_what_happens_between_steps_does_not_matter(tmp_path):
    _, calm = run(tmp_path / 'calm')
    options = {'train_cfg.val_interval': 1}
    _, busy = run(tmp_path / 'busy', Disturb(), **options)
    assert busy.draws == calm.draws
    assert busy.images == calm.images


@pytest.mark.parametrize(
    ('kind', 'restored'),
    [(DefaultSampler, 7), (RepeatAugSampler, 7), (InfiniteSampler, 3)],
)
def test_samplers_that_have_not_begun_get_their_seed_back(kind, restored):
    """Whoever wrote them; a begun order cannot be another one any more."""
    sampler = kind(list(range(8)), seed=3)
    loader = DataLoader(list(range(8)), batch_size=2, sampler=sampler)
    hub = MessageHub(f'{kind.__name__} resumed')
    hub.update_info(SAMPLER_SEED, 7)
    runner = SimpleNamespace(
        train_dataloader=loader, train_loop=None, message_hub=hub, iter=4
    )
    SeededStepHook().before_train(runner)
    assert sampler.seed == restored


def test_a_resumed_run_goes_on_with_its_seeds(tmp_path):
    options = {'randomness.seed': None}
    saving = {'default_hooks.checkpoint.interval': 1}
    first, whole = run(tmp_path / 'whole', **options, **saving)
    checkpoint = dict(load_from=str(tmp_path / 'whole' / 'epoch_1.pth'))
    resumed, rest = run(
        tmp_path / 'rest', resume=True, **checkpoint, **options
    )
    assert resumed.seed == first.seed
    assert rest.draws == whole.draws[3:]
    assert rest.images == whole.images[3:]
    # A run of its own has its own seed, though it starts from the weights and
    # may share the message hub.
    other = {**checkpoint, 'randomness.seed': 8}
    loaded, start = run(tmp_path / 'start', SharedHub(), **other)
    assert loaded.train_dataloader.sampler.seed == 8
    assert start.images[:3] != whole.images[:3]
