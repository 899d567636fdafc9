# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""--keep-images changes how long a campaign takes and nothing else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
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
arms = dict(plain=dict(config='training.py', epochs=2))
"""


def test_weights_and_hashes_are_those_of_decoding_each_time(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    for name in ('a', 'b'):
        (tmp_path / 'images' / name).mkdir(parents=True)
        for number in range(6):
            image = rng.integers(0, 255, (12, 12), dtype=np.uint8)
            path = tmp_path / 'images' / name / f'{number}.jpg'
            cv2.imwrite(str(path), image)
    training = TRAINING.format(digits=DIGITS, folder=tmp_path / 'images')
    (tmp_path / 'training.py').write_text(training)
    source = tmp_path / 'campaign.py'
    source.write_text(CAMPAIGN)
    found = []
    for flags in ((), ('--keep-images',)):
        work_dir = tmp_path / f'work{len(found)}'
        process = start(source, work_dir, '--keep-checkpoints', *flags)
        output = work_dir.with_name('work.log')
        assert process.wait(300) == 0, output.read_text()
        cell = work_dir / 'runs' / 'plain' / 'seed1'
        checkpoint = torch.load(cell / 'epoch_2.pth', weights_only=False)
        (record,) = records(work_dir)
        log = (cell / 'console.log').read_text()
        found.append((record, checkpoint['state_dict'], log))
    (record, weights, log), (kept_record, kept_weights, kept_log) = found
    assert kept_record['hash'] == record['hash']
    assert kept_record['test'] == record['test']
    assert kept_weights.keys() == weights.keys()
    assert all(torch.equal(weights[key], kept_weights[key]) for key in weights)
    said = 'once for each training image: LoadImageFromFile, Resize.'
    assert said in kept_log and said not in log
