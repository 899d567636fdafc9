# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Overheads are differences between like and like."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from reducenet_mm.datasets import SeedSample
from reducenet_mm.experiments.benchmarks import overhead
from reducenet_mm.experiments.benchmarks.overhead import (
    measure_overhead,
    percentages,
    without_seeds,
)
from reducenet_mm.experiments.benchmarks.timing import Times, take_turns

TEACHER = 'configs/reducenet/digits/reducenet8-w16-e4_digits_teacher.py'
FASHION = 'configs/_base_/datasets/fashion-mnist.py'


@pytest.fixture
def cfg() -> Config:
    """A training config of the digits, tiny."""
    cfg = Config.fromfile(TEACHER)
    cfg.merge_from_dict(
        {
            'model.backbone.base_channels': 4,
            'model.head.in_channels': 16,
            'train_dataloader.batch_size': 8,
            'train_dataloader.dataset.indices': 20,
        }
    )
    return cfg


def test_without_seeds_nothing_else_is_changed(cfg: Config) -> None:
    before = copy.deepcopy(cfg.train_dataloader)
    plain = without_seeds(cfg.train_dataloader)
    assert cfg.train_dataloader == before
    init_default_scope('mmpretrain')
    loader = Runner.build_dataloader(plain, seed=0)
    assert type(loader.batch_sampler.sampler) is DefaultSampler
    assert loader.batch_sampler.sampler.shuffle
    steps = [type(step) for step in loader.dataset.pipeline.transforms]
    assert SeedSample not in steps and len(steps) == 2
    plain['sampler']['type'] = 'SeededSampler'
    plain['dataset']['pipeline'].insert(0, dict(type='SeedSample'))
    assert plain == before


def test_seeds_are_found_inside_a_split() -> None:
    seeded = Config.fromfile(FASHION).train_dataloader
    plain = without_seeds(seeded)
    steps = plain['dataset']['dataset']['pipeline']
    assert [step['type'] for step in steps] == [
        step['type'] for step in seeded.dataset.dataset.pipeline[1:]
    ]


def test_seeds_are_taken_out_of_every_data_set(cfg: Config) -> None:
    loader = cfg.train_dataloader
    loader.dataset = dict(
        type='ConcatDataset', datasets=[loader.dataset, loader.dataset]
    )
    for dataset in without_seeds(loader)['dataset']['datasets']:
        steps = [step['type'] for step in dataset['pipeline']]
        assert len(steps) == 2 and 'SeedSample' not in steps


@pytest.mark.parametrize('missing', ['sampler', 'step'])
def test_a_pipeline_without_seeds_is_refused(
    cfg: Config, missing: str
) -> None:
    loader = cfg.train_dataloader
    if missing == 'sampler':
        loader.sampler.type = 'DefaultSampler'
    else:
        del loader.dataset.pipeline[0]
    with pytest.raises(ValueError, match='reproducible.py'):
        without_seeds(loader)


def test_turns_change_their_order() -> None:
    calls: list[str] = []
    actions = {name: lambda n=name: calls.append(n) for name in 'abc'}
    times = take_turns(actions, 3)
    assert calls == list('abccbaabc')
    assert [len(values) for values in times.values()] == [3] * 3
    assert all(one.wall > 0 for one in times['a'])


def test_percentages_are_of_the_same_round() -> None:
    times = {
        'epoch unseeded': [Times(10, 4), Times(20, 8)],
        'epoch seeded': [Times(11, 5), Times(21, 10)],
        'data unseeded': [Times(1, 1.0), Times(1, 1.0)],
        'data seeded': [Times(9, 1.2), Times(9, 1.8)],
        'checkpoint local': [Times(0.1, 9), Times(0.4, 9)],
        'checkpoint atomic': [Times(0.2, 9), Times(0.8, 9)],
    }
    medians = {
        name: round(value['median'], 6)
        for name, value in percentages(times, checkpoints=2).items()
    }
    assert medians == {
        'seeding, wall': 7.5,  # of 10 and 5
        'seeding, cpu': 25.0,
        'seeding, cpu of loading': 7.5,  # of 5 and 10
        'atomic writing': 1.5,  # of 1 and 2
        'both, as configured': 6.0,  # of 4 and 8, with two checkpoints
    }


def test_what_is_timed_is_what_its_name_says(
    cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded: list[str] = []
    trained: list[str] = []
    doing = ''

    def note(self: SeedSample, results: dict[str, Any]) -> Any:
        seeded.append(doing)
        return transform(self, results)

    def note_step(self: BaseModel, data: Any, optim_wrapper: Any) -> Any:
        trained.append(doing)
        return train_step(self, data, optim_wrapper)

    def watch(actions: Any, rounds: int) -> Any:
        nonlocal doing
        found = {}
        for doing, action in actions.items():
            found.update(take_turns({doing: action}, rounds))
        return found

    transform, train_step = SeedSample.transform, BaseModel.train_step
    monkeypatch.setattr(BaseModel, 'train_step', note_step)
    monkeypatch.setattr(SeedSample, 'transform', note)
    monkeypatch.setattr(overhead, 'take_turns', watch)
    before = copy.deepcopy(cfg.to_dict())
    result = measure_overhead(cfg, 2, tmp_path)
    assert cfg.to_dict() == before
    assert seeded[:20] == [''] * 20  # the warm-up
    assert seeded[20:] == ['epoch seeded'] * 40 + ['data seeded'] * 40
    epochs = ['epoch unseeded'] * 6 + ['epoch seeded'] * 6
    assert trained == [''] * 3 + epochs
    assert result['images_per_epoch'] == 20
    assert result['checkpoints_per_epoch'] == 1 / 15
    sizes = [
        (tmp_path / f'{b}.pth').stat().st_size for b in ('local', 'atomic')
    ]
    assert sizes[0] == sizes[1] == result['checkpoint_bytes']


@pytest.mark.parametrize(
    'hook, written',
    [
        (dict(interval=15), 1 / 15),
        (dict(interval=50, by_epoch=False), 2.0),
        (dict(interval=-1), 0.0),
        (dict(type='CheckpointHook'), 0.0),
    ],
)
def test_checkpoints_are_counted_as_configured(
    hook: dict[str, Any], written: float
) -> None:
    assert overhead.checkpoints_per_epoch(hook, iterations=100) == written
