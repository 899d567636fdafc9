# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Kept images are those of the files, bit for bit, and read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import mmcv.transforms as mmcv_transforms
import mmpretrain.datasets.transforms as mmpretrain_transforms
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import TRANSFORMS
from mmpretrain.datasets import CustomDataset
from torch.utils.data import DataLoader

from reducenet_mm.datasets import SeededSampler
from reducenet_mm.datasets.drawing import NUMPY_AT_MOST
from reducenet_mm.datasets.kept import FIXED, KeptSteps, keep_images

LOAD = dict(type='mmpretrain.LoadImageFromFile')
SHRINK = dict(type='mmpretrain.Resize', scale=(8, 6))
CROP = dict(type='mmpretrain.RandomCrop', crop_size=6, padding=1)
PACK = dict(type='mmpretrain.PackInputs')


@TRANSFORMS.register_module()
class ShrinkByChance(mmcv_transforms.Resize):
    """A subclass of a fixed step, which might draw."""


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
    said = keep_images(DataLoader(keeping))
    assert said.endswith('training image: LoadImageFromFile, Resize.')
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
    keep_images(DataLoader(dataset))
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


def test_a_kept_crop_is_not_a_view_of_the_whole_image(folder: Path) -> None:
    steps = [
        mmcv_transforms.LoadImageFromFile(),
        mmcv_transforms.CenterCrop(2),
    ]
    step = KeptSteps(steps)
    made = step(dict(img_path=str(folder / 'cat' / '0.jpg')))
    (kept,) = step._kept.values()
    assert made['img'].shape == (2, 2, 3)
    assert kept['img'].base is None


def test_images_of_one_file_with_other_boxes_are_not_mixed_up(
    folder: Path,
) -> None:
    steps = [
        mmcv_transforms.LoadImageFromFile(),
        mmcv_transforms.Resize((24, 20)),
    ]
    step = KeptSteps(steps)
    path = str(folder / 'cat' / '0.jpg')
    for size in (1.0, 2.0):
        boxes = np.array([[0.0, 0.0, size, size]], dtype=np.float32)
        made = step(dict(img_path=path, gt_bboxes=boxes))
        assert made['gt_bboxes'].tolist() == [[0, 0, 2 * size, 2 * size]]


@pytest.mark.parametrize(
    ('steps', 'kept', 'numpy_only'),
    [
        ([LOAD, CROP, SHRINK], 1, True),
        ([LOAD, dict(SHRINK, type='ShrinkByChance'), SHRINK], 1, False),
        ([dict(LOAD, type='LoadReadableImage'), SHRINK], 2, True),
        ([LOAD, SHRINK, SHRINK, PACK], 3, True),
    ],
)
def test_only_what_is_fixed_is_kept(
    folder: Path, steps: list[dict], kept: int, numpy_only: bool
) -> None:
    dataset = build(folder, *steps)
    keep_images(DataLoader(dataset))
    SeededSampler(dataset, seed=0)  # which looks at the steps
    seeding, keeping, *others = dataset.pipeline.transforms
    assert len(keeping.steps.transforms) == kept
    assert len(others) == len(steps) - kept
    assert seeding.numpy_only is numpy_only


@pytest.mark.parametrize(
    ('steps', 'loader', 'reason'),
    [
        ([CROP], {}, 'no pipeline of its own that reads files'),
        (
            [dict(LOAD, type='LoadReadableImage', max_unreadable=1)],
            {},
            'LoadReadableImage with max_unreadable=0',
        ),
        ([LOAD, SHRINK], dict(num_workers=1), 'persistent_workers=True'),
    ],
)
def test_where_nothing_is_kept_the_reason_is_said(
    folder: Path, steps: list[dict], loader: dict, reason: str
) -> None:
    dataset = build(folder, *steps)
    said = keep_images(DataLoader(dataset, **loader))
    assert said.startswith('No training image is kept') and reason in said
    assert len(dataset.pipeline.transforms) == 1 + len(steps)
    assert keep_images(DataLoader([1, 2])).startswith('No training image')


def test_each_loader_process_keeps_its_own(folder: Path) -> None:
    loader = DataLoader(
        build(folder, LOAD, SHRINK), num_workers=1, persistent_workers=True
    )
    assert ', in each loader process: LoadIm' in keep_images(loader)


def test_other_steps_are_refused() -> None:
    for steps in ([], [mmpretrain_transforms.RandomCrop(2)]):
        with pytest.raises(ValueError, match='steps must be LoadImageFromFil'):
            KeptSteps(steps)


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
