# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A generator is left alone only where nothing draws from it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cv2
import mmcv.transforms as mmcv_transforms
import mmpretrain.datasets.transforms as mmpretrain_transforms
import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS

from reducenet_mm.datasets import (
    Digits,
    LoadReadableImage,
    SampleIndex,
    SeededSampler,
    SeedSample,
)
from reducenet_mm.datasets.drawing import NUMPY_AT_MOST
from reducenet_mm.datasets.kept import KeptSteps

CROP = dict(type='mmpretrain.RandomCrop', crop_size=8, padding=1)
PACK = dict(type='mmpretrain.PackInputs')
JITTER = dict(
    type='mmpretrain.ColorJitter', brightness=0.5, contrast=0.5, saturation=0.5
)
TORCHVISION = dict(
    type='mmpretrain.torchvision/RandomAffine', degrees=0, translate=(0.5, 0.5)
)
PYTHON_DRAW = 0.21983424684036224
NUMPY_DRAW = 0.6150457551776364
NUMPY_INTEGER = 545
TORCH_DRAW = 0.4074898362159729
EXAMPLES = [
    mmcv_transforms.CenterCrop(6),
    mmcv_transforms.LoadImageFromFile(),
    mmcv_transforms.RandomFlip(0.5),
    mmcv_transforms.Resize((9, 5)),
    KeptSteps([mmcv_transforms.LoadImageFromFile()]),
    LoadReadableImage(max_unreadable=2),
    mmpretrain_transforms.PackInputs(),
    mmpretrain_transforms.RandomCrop(6, padding=2),
    mmpretrain_transforms.RandomResizedCrop(6),
    mmpretrain_transforms.ResizeEdge(5),
]


@TRANSFORMS.register_module()
class CropAndDraw(mmpretrain_transforms.RandomCrop):
    """A known transform's subclass, which draws from Python's generator."""

    def transform(self, results: dict) -> dict:
        random.random()
        return super().transform(results)


class DrawingDigits(Digits):
    """A data set with a way of its own to a sample."""

    def prepare_data(self, idx: int) -> Any:
        torch.rand(())
        return super().prepare_data(idx)


def states() -> tuple[Any, ...]:
    """The states of Python's, NumPy's and torch's generator."""
    name, keys, *rest = np.random.get_state()
    for_numpy = (name, keys.tobytes(), *rest)
    for_torch = torch.get_rng_state().numpy().tobytes()
    return random.getstate(), for_numpy, for_torch


def seeding_step(
    *steps: dict, dataset: type[Digits] = Digits, **kwargs: Any
) -> SeedSample:
    """``SeedSample`` of a data set that has been given to a sampler."""
    pipeline = [dict(type='SeedSample'), *steps]
    built = dataset(pipeline=pipeline, indices=4, **kwargs)
    SeededSampler(built, seed=0)
    return built.pipeline.transforms[0]


@pytest.mark.parametrize('step', EXAMPLES, ids=lambda s: type(s).__name__)
def test_the_known_draw_from_numpy_at_most(
    step: BaseTransform, tmp_path: Path
) -> None:
    assert type(step) in NUMPY_AT_MOST
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    for_python, _, for_torch = states()
    for _ in range(50):
        results = dict(img_path=path, gt_label=1)
        if not isinstance(step, mmcv_transforms.LoadImageFromFile):
            results.update(img=cv2.imread(path), img_shape=(10, 10))
        step(results)
    after = states()
    assert (after[0], after[2]) == (for_python, for_torch)


def test_all_the_known_are_examined() -> None:
    assert {type(step) for step in EXAMPLES} == NUMPY_AT_MOST


def test_a_broken_file_is_passed_over_by_numpy_alone() -> None:
    step = LoadReadableImage(max_unreadable=2)
    step.replaces = True
    step(dict(img_path='gone.png'))
    before = states()
    assert step(dict(img_path='lost.png')) is None
    after = states()
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] != before[1]


def test_what_is_not_known_has_all_generators_seeded() -> None:
    assert seeding_step(CROP, PACK).numpy_only
    for unknown in (JITTER, TORCHVISION, dict(CROP, type='CropAndDraw')):
        assert not seeding_step(CROP, unknown, PACK).numpy_only
    assert not seeding_step(CROP, PACK, dataset=DrawingDigits).numpy_only
    assert not SeedSample().numpy_only


def test_what_comes_before_does_not_count() -> None:
    built = Digits(pipeline=[JITTER, dict(type='SeedSample'), CROP], indices=4)
    SeededSampler(built, seed=0)
    assert built.pipeline.transforms[1].numpy_only


def test_a_changed_pipeline_is_noticed_at_the_next_epoch() -> None:
    built = Digits(pipeline=[dict(type='SeedSample'), CROP], indices=4)
    sampler = SeededSampler(built, seed=0)
    steps = built.pipeline.transforms
    assert steps[0].numpy_only
    steps.append(CropAndDraw(8))
    sampler.set_epoch(1)
    assert not steps[0].numpy_only
    built.pipeline = Compose([steps[0], steps[1]])
    sampler.set_epoch(2)
    assert steps[0].numpy_only


@pytest.mark.parametrize('name', ['digits', 'fashion-mnist', 'imagenet'])
def test_the_pipelines_of_ours_need_numpy_alone(name: str) -> None:
    cfg = Config.fromfile(f'configs/_base_/datasets/{name}.py')
    steps = [
        dict(step, type=f'mmpretrain.{step.type}')
        for step in cfg.train_pipeline[1:]
    ]
    assert seeding_step(*steps).numpy_only


@pytest.mark.parametrize('numpy_only', [False, True])
def test_the_numbers_drawn_are_the_recorded_ones(numpy_only: bool) -> None:
    """Seeds of fewer generators leave the streams of the others as is."""
    step = SeedSample()
    step.numpy_only = numpy_only
    random.seed(1)
    torch.manual_seed(1)
    step(dict(sample_idx=SampleIndex(3, seed=1, epoch=2)))
    others = random.random(), torch.rand(()).item()
    assert np.random.rand() == NUMPY_DRAW
    assert np.random.randint(0, 1000) == NUMPY_INTEGER
    recorded = (PYTHON_DRAW, TORCH_DRAW)
    assert (others == pytest.approx(recorded)) is not numpy_only


def test_crops_are_those_of_all_generators_seeded() -> None:
    def images(**known: Any) -> list[list[int]]:
        pipeline = [dict(type='SeedSample'), CROP]
        built = Digits(pipeline=pipeline, indices=20)
        order = list(SeededSampler(built, seed=3))
        assert built.pipeline.transforms[0].numpy_only
        if known:
            vars(built.pipeline.transforms[0]).update(known)
        return [built[index]['img'].flatten().tolist() for index in order]

    assert images() == images(numpy_only=False)
