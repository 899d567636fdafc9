# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A campaign on image files: decoded once or each time, and wrong labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from .campaigns import DIGITS, records, start

TRAINING = """
_base_ = '{digits}/plain8-w16_digits.py'
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='{folder}',
        pipeline=[
            dict(type='SeedSample'),
            dict(type='LoadImageFromFile', color_type='grayscale'),
            dict(type='Resize', scale=(8, 8)),
            dict(type='RandomCrop', crop_size=8, padding=1),
            dict(type='PackInputs'),
        ],
    ),
)
"""
CAMPAIGN = """
seeds = [1]
arms = dict(
    plain=dict(config='training.py', epochs=2),
    narrow=dict(
        config='training.py', epochs=1,
        cfg_options={'model.head.num_classes': 2}),
)
"""


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """A campaign on images of three classes."""
    rng = np.random.default_rng(0)
    for name in ('a', 'b', 'c'):
        (tmp_path / 'images' / name).mkdir(parents=True)
        for number in range(4):
            image = rng.integers(0, 255, (12, 12), dtype=np.uint8)
            path = tmp_path / 'images' / name / f'{number}.jpg'
            cv2.imwrite(str(path), image)
    training = TRAINING.format(digits=DIGITS, folder=tmp_path / 'images')
    (tmp_path / 'training.py').write_text(training)
    source = tmp_path / 'campaign.py'
    source.write_text(CAMPAIGN)
    return source


def run(source: Path, work_dir: Path, *flags: str) -> int:
    return start(source, work_dir, '--keep-checkpoints', *flags).wait(300)


def test_weights_and_hashes_are_those_of_decoding_each_time(
    campaign: Path, tmp_path: Path
) -> None:
    found = []
    for flags in ((), ('--keep-images',)):
        work_dir = tmp_path / f'work{len(found)}'
        assert run(campaign, work_dir, '--arms', 'plain', *flags) == 0
        cell = work_dir / 'runs' / 'plain' / 'seed1'
        checkpoint = torch.load(cell / 'epoch_2.pth', weights_only=False)
        (record,) = records(work_dir)
        log = (cell / 'console.log').read_text()
        found.append((record, checkpoint['state_dict'], log))
    (record, weights, log), (kept_record, kept_weights, kept_log) = found
    assert kept_record['hash'] == record['hash']
    assert kept_record['test'] == record['test']
    assert kept_record['keep_images'] and not record['keep_images']
    assert kept_weights.keys() == weights.keys()
    assert all(torch.equal(weights[key], kept_weights[key]) for key in weights)
    said = 'Done once for each training image: LoadImageFromFile, Resize.'
    assert said in kept_log and said not in log


def test_labels_that_a_head_does_not_have_are_named(
    campaign: Path, tmp_path: Path
) -> None:
    work_dir = tmp_path / 'work'
    assert run(campaign, work_dir, '--arms', 'narrow') == 1
    (record,) = records(work_dir)
    assert record['status'] == 'failed'
    assert 'model.head.num_classes=2, but train_dataloader' in record['error']
    assert not list(work_dir.glob('runs/narrow/seed1/*.pth'))
