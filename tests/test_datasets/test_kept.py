# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Kept images are those of the files, bit for bit, and read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import mmcv.transforms as mmcv_transforms
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import TRANSFORMS
from mmpretrain.datasets import CustomDataset

from reducenet_mm.datasets import Digits, SeededSampler
from reducenet_mm.datasets.drawing import NUMPY_AT_MOST
from reducenet_mm.datasets.kept import FIXED, KeptSteps, keep_images

LOAD = dict(type='mmpretrain.LoadImageFromFile')
SHRINK = dict(type='mmpretrain.Resize', scale=(8, 6))
CROP = dict(type='mmpretrain.RandomCrop', crop_size=6, padding=1)
PACK = dict(type='mmpretrain.PackInputs')


@TRANSFORMS.register_module()
class ShrinkByChance(mmcv_transforms.Resize):
    """A subclass of a fixed step, which draws."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ('cat', 'dog'):
        (tmp_path / name).mkdir()
        for number in range(3):
            image = rng.integers(0, 255, (10, 12, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / name / f'{number}.jpg'), image)
    return tmp_path


def build(folder: Path, *steps: dict) -> BaseDataset:
    pipeline = [dict(type='SeedSample'), *steps]
    return CustomDataset(data_root=str(folder), pipeline=pipeline)


def epoch(dataset: BaseDataset, number: int) -> list[dict[str, Any]]:
    sampler = SeededSampler(dataset, seed=3)
    sampler.set_epoch(number)
    return [dataset[index] for index in sampler]


def test_samples_stay_the_same_and_files_are_read_once(folder: Path) -> None:
    steps = (LOAD, SHRINK, CROP, PACK)
    usual, keeping = build(folder, *steps), build(folder, *steps)
    assert keep_images(keeping) == ['LoadImageFromFile', 'Resize']
    wanted = [epoch(usual, number) for number in range(3)]
    found = [epoch(keeping, 0)]
    for path in folder.glob('*/*.jpg'):
        path.unlink()
    found += [epoch(keeping, number) for number in (1, 2)]
    assert len(found[2]) == 6
    for one, other in zip(sum(wanted, []), sum(found, []), strict=True):
        assert torch.equal(one['inputs'], other['inputs'])
        first, second = one['data_samples'], other['data_samples']
        assert torch.equal(first.gt_label, second.gt_label)
        assert first.metainfo == second.metainfo
    pixels = [[one['inputs'].tolist() for one in each] for each in found]
    assert pixels[0] != pixels[1]  # the crops are drawn anew
    with pytest.raises(FileNotFoundError):
        epoch(usual, 3)


def test_a_changed_image_is_not_the_kept_one(folder: Path) -> None:
    dataset = build(folder, LOAD)
    keep_images(dataset)
    first = epoch(dataset, 0)[0]['img']
    before = first.copy()
    first[:] = 0
    assert np.array_equal(epoch(dataset, 0)[0]['img'], before)
    assert before.any()


def test_an_image_that_is_ignored_is_not_kept(folder: Path) -> None:
    load = mmcv_transforms.LoadImageFromFile(ignore_empty=True)
    step = KeptSteps([load])
    path = folder / 'cat' / 'later.jpg'
    assert step(dict(img_path=str(path))) is None
    cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    assert step(dict(img_path=str(path)))['img_shape'] == (4, 4)


@pytest.mark.parametrize(
    ('steps', 'kept'),
    [
        ([LOAD, CROP, SHRINK], 1),
        ([LOAD, dict(SHRINK, type='ShrinkByChance'), SHRINK], 1),
        ([dict(LOAD, type='LoadReadableImage'), SHRINK], 0),
        ([LOAD, SHRINK, SHRINK, PACK], 3),
    ],
)
def test_only_what_is_fixed_is_kept(
    folder: Path, steps: list[dict], kept: int
) -> None:
    dataset = build(folder, *steps)
    assert len(keep_images(dataset)) == kept
    SeededSampler(dataset, seed=0)  # which looks at the steps
    kinds = {type(step) for step in dataset.pipeline.transforms[1:]}
    assert dataset.pipeline.transforms[0].numpy_only == (
        kinds <= NUMPY_AT_MOST
    )


def test_data_in_memory_has_nothing_to_keep() -> None:
    dataset = Digits(pipeline=[CROP], indices=4)
    assert keep_images(dataset) == []
    assert len(dataset.pipeline.transforms) == 1
    assert keep_images([1, 2]) == []


@pytest.mark.parametrize('kind', sorted(FIXED, key=lambda kind: kind.__name__))
def test_the_fixed_steps_draw_nothing(kind: type) -> None:
    step = kind(5)
    image = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    np.random.seed(0)
    before = np.random.get_state()[1].tolist(), np.random.get_state()[2]
    one, two = (
        step(dict(img=image.copy(), img_shape=(10, 10))) for _ in range(2)
    )
    after = np.random.get_state()[1].tolist(), np.random.get_state()[2]
    assert before == after
    assert np.array_equal(one['img'], two['img'])
    assert FIXED < NUMPY_AT_MOST  # so it draws from no other generator
