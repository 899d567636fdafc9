# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
from __future__ import annotations

import copy
import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS, TRANSFORMS
from mmengine.runner import Runner

from reducenet_mm.datasets import SampleIndex, SeededSampler, SeedSample
from reducenet_mm.seeds import mix_seeds

SIZE = 23


@TRANSFORMS.register_module()
class DrawFromAll(BaseTransform):
    """Replace the image by a draw from each generator."""

    def transform(self, results: dict) -> dict | None:
        draws = [random.random(), np.random.rand(), torch.rand(()).item()]
        results['img'] = np.array(draws).reshape(1, 1, 3)
        return results


@TRANSFORMS.register_module()
class Breaks(DrawFromAll):
    """Find a third of the images broken, by chance."""

    def transform(self, results: dict) -> dict | None:
        if np.random.rand() < 1 / 3:
            return None
        return super().transform(results)


def sampler(seed: int = 5, epoch: int = 0, size: int = SIZE, **kwargs: Any):
    made = SeededSampler(range(size), seed=seed, **kwargs)
    made.set_epoch(epoch)
    return made


def loader(*steps: str, dataset: dict | None = None, **kwargs: Any):
    pipeline = [dict(type=step) for step in steps]
    inner = dict(
        type='mmpretrain.Digits',
        indices=SIZE,
        pipeline=[*pipeline, dict(type='mmpretrain.PackInputs')],
    )
    cfg = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='SeededSampler'),
        dataset=dict(dataset, dataset=inner) if dataset else inner,
    )
    return Runner.build_dataloader(dict(cfg, **kwargs), seed=7)


def by_image(train_loader: Any, epoch: int = 0) -> dict[int, list[float]]:
    """What each image has become, by its index."""
    train_loader.sampler.set_epoch(epoch)
    seen = {}
    for batch in train_loader:
        for image, sample in zip(batch['inputs'], batch['data_samples']):
            seen[sample.sample_idx] = image.flatten().tolist()
    return seen


@pytest.fixture
def be_rank(monkeypatch):
    """Make MMEngine's samplers believe in several processes."""

    def be(rank: int, world_size: int) -> None:
        monkeypatch.setattr(
            'mmengine.dataset.sampler.get_dist_info',
            lambda: (rank, world_size),
        )

    return be


@pytest.mark.parametrize('duplicate', [pickle, copy])
def test_an_index_keeps_what_it_knows(duplicate):
    index = SampleIndex(3, seed=2**40, epoch=9)
    if duplicate is pickle:
        index = pickle.loads(pickle.dumps(index))
    else:
        index = copy.deepcopy(index)
    assert (index, index.turn) == (3, (2**40, 9))
    assert index.seeds == mix_seeds('sample', 2**40, 9, 3)
    assert [10, 11, 12, 13][index] == 13


def test_mixed_seeds_are_the_recorded_ones():
    assert mix_seeds('sample', 1, 2, 3) == (
        5827985026345524974,
        628491597,
        3950709869850308585,
    )
    seeds = {
        mix_seeds(purpose, *numbers)
        for purpose in ('sample', 'step')
        for numbers in [(1, 2), (2, 1), (0, 3), (-1, 4), (1, 2, 0)]
    }
    assert len(seeds) == 10
    assert len({seed for three in seeds for seed in three}) == 30


def test_the_order_depends_on_seed_and_epoch_only():
    order = list(sampler(seed=5, epoch=2))
    random.seed(1)
    torch.manual_seed(1)
    assert list(sampler(seed=5, epoch=2)) == order
    assert sorted(order) == list(range(SIZE))
    assert all(i.turn == (5, 2) for i in order)
    assert all(i.seeds == mix_seeds('sample', 5, 2, i) for i in order)
    others = [(5, 1), (5, 3), (4, 2), (6, 2), (4, 3), (6, 1)]
    assert order not in [list(sampler(*other)) for other in others]
    # The last two are what a sum of seed and epoch would confound.
    confounded = DefaultSampler(range(SIZE), seed=4)
    confounded.set_epoch(3)
    stock = DefaultSampler(range(SIZE), seed=5)
    stock.set_epoch(2)
    assert list(confounded) == list(stock)
    assert list(sampler(epoch=2, shuffle=False)) == list(range(SIZE))


@pytest.mark.parametrize('size', [23, 24, 1])
@pytest.mark.parametrize('round_up', [True, False])
def test_processes_share_one_order(be_rank, round_up, size):
    whole = list(sampler(size=size))
    shares = []
    for rank in range(3):
        be_rank(rank, 3)
        share = sampler(size=size, round_up=round_up)
        shares.append(list(share))
        assert len(share) == len(shares[-1])
        stock = DefaultSampler(range(size), seed=0, round_up=round_up)
        assert len(share) == len(stock)
    turns = max(map(len, shares))
    dealt = [s[turn] for turn in range(turns) for s in shares if turn < len(s)]
    extra = 3 * turns - size if round_up else 0
    assert dealt == whole + (whole * 3)[:extra]


def test_the_runner_gives_the_seed():
    assert loader().sampler.seed == 7
    explicit = dict(type='SeededSampler', seed=3)
    assert loader(sampler=explicit).sampler.seed == 3
    assert isinstance(DATA_SAMPLERS.get('SeededSampler'), type)


def test_skipping_leaves_out_the_first_samples_once(be_rank):
    be_rank(1, 2)
    resumed, whole = sampler(), sampler(epoch=4)
    resumed.skip_samples(8)
    resumed.set_epoch(4)  # as the Runner does before the epoch
    assert len(resumed) == 12 - 8
    assert list(resumed) == list(whole)[8:]
    assert len(resumed) == 12 - 8  # the epoch is still going on
    resumed.set_epoch(4)
    assert len(resumed) == 12 - 8
    resumed.set_epoch(5)
    assert len(resumed) == 12
    assert list(resumed) == list(sampler(epoch=5))


def test_another_iteration_of_the_epoch_is_whole():
    resumed = sampler()
    resumed.skip_samples(SIZE)
    assert list(resumed) == []
    assert list(resumed) == list(sampler())
    assert len(resumed) == SIZE


@pytest.mark.parametrize('count', [-1, SIZE + 1])
def test_more_than_there_is_cannot_be_skipped(count):
    made = sampler()
    with pytest.raises(ValueError, match=f'23 samples .* leave out {count}'):
        made.skip_samples(count)
    assert list(made) == list(sampler())


def test_the_transform_seeds_all_three_generators():
    def draws(seed: int, epoch: int, index: int) -> list[float]:
        step = SeedSample()
        results = dict(sample_idx=SampleIndex(index, seed, epoch), img=None)
        step(results)
        assert type(results['sample_idx']) is int
        assert results == dict(sample_idx=index, img=None)
        return DrawFromAll()(results)['img'].flatten().tolist()

    first = draws(1, 2, 3)
    assert draws(1, 2, 3) == first
    for other in [(0, 2, 3), (1, 1, 3), (1, 2, 2), (2, 1, 3)]:
        assert all(a != b for a, b in zip(draws(*other), first))


def test_augmentation_does_not_depend_on_who_does_it(be_rank):
    steps = ('SeedSample', 'DrawFromAll')
    expected = by_image(loader(*steps), epoch=1)
    assert len(expected) == SIZE
    for settings in (
        dict(batch_size=7),
        dict(num_workers=2),
        dict(num_workers=3, batch_size=1, persistent_workers=True),
    ):
        made = loader(*steps, **settings)
        by_image(made, epoch=0)
        assert by_image(made, epoch=1) == expected
    assert by_image(loader(*steps), epoch=2) != expected
    halves = {}
    for rank in (0, 1):
        be_rank(rank, 2)
        half = by_image(loader(*steps), epoch=1)
        assert len(half) == SIZE // 2 + 1
        halves.update(half)
    assert halves == expected


def test_without_the_transform_the_workers_matter():
    one = by_image(loader('DrawFromAll', num_workers=1))
    two = by_image(loader('DrawFromAll', num_workers=2))
    assert one.keys() == two.keys()
    assert one != two


def test_a_broken_image_is_replaced_reproducibly():
    def images(**settings: Any) -> list[list[float]]:
        made = loader('SeedSample', 'Breaks', **settings)
        made.sampler.set_epoch(3)
        return [
            [sample.sample_idx, *image.flatten().tolist()]
            for batch in made
            for image, sample in zip(batch['inputs'], batch['data_samples'])
        ]

    expected = images()
    assert len(expected) == SIZE
    order = [index for index, *_ in expected]
    assert order != list(sampler(seed=7, epoch=3))  # some are replaced
    assert images(num_workers=2) == expected
    assert images(num_workers=3, batch_size=5) == expected


@pytest.mark.parametrize(
    'settings',
    [
        dict(sampler=dict(type='DefaultSampler', shuffle=True)),
        dict(dataset=dict(type='RepeatDataset', times=2)),
    ],
)
def test_plain_indices_are_refused(settings):
    message = (
        r"got sample_idx=\d+ of type int.*sampler.type='SeededSampler'.*"
        r'train_dataloader\.dataset\.type'
    )
    with pytest.raises(TypeError, match=message):
        next(iter(loader('SeedSample', **settings)))


def test_a_number_of_batches_can_be_given():
    images = by_image(loader('SeedSample', num_batch_per_epoch=2))
    assert len(images) == 8


def test_a_data_set_without_indices_is_refused():
    with pytest.raises(TypeError, match='got sample_idx=None'):
        SeedSample()(dict(img=None))
