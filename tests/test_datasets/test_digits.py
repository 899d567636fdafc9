# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.registry import DATASETS
from sklearn.datasets import load_digits

from reducenet_mm.datasets.digits import Digits, split_indices

DATASET_CONFIG = (
    Path(__file__).parents[2] / 'configs/_base_/datasets/digits.py'
)
SIZES = {'train': 997, 'val': 300, 'test': 500}
HASHES = {
    'train': '1bf15ac906f3d6af',
    'val': '8dec9194e0312039',
    'test': '220dc802e9fd0094',
}


def digest(indices):
    """First half of the SHA-256 of the indices as little-endian int64."""
    return hashlib.sha256(indices.astype('<i8').tobytes()).hexdigest()[:16]


def test_split_is_the_recorded_one():
    parts = split_indices(load_digits().target)
    assert {name: len(part) for name, part in parts.items()} == SIZES
    assert {name: digest(part) for name, part in parts.items()} == HASHES
    together = np.sort(np.concatenate(list(parts.values())))
    np.testing.assert_array_equal(together, np.arange(1797))


@pytest.mark.parametrize('split', SIZES)
def test_sizes_balance_and_classes(split):
    dataset = DATASETS.build(dict(type='Digits', split=split))
    assert type(dataset) is Digits
    assert len(dataset) == SIZES[split]
    assert dataset.CLASSES == tuple('0123456789')
    counts = np.bincount(dataset.get_gt_labels())
    wanted = {
        'train': [98, 102, 97, 103, 101, 102, 101, 99, 94, 100],
        'val': [30] * 10,
        'test': [50] * 10,
    }
    assert counts.tolist() == wanted[split]


def test_images_are_those_of_scikit_learn():
    digits = load_digits()
    val = Digits(split='val')
    for place, source in enumerate(split_indices(digits.target)['val']):
        info = val.get_data_info(place)
        assert info['img'].shape == (8, 8, 1)
        assert info['img'].dtype == np.uint8
        grey = np.rint(digits.images[source] * 255 / 16)
        np.testing.assert_array_equal(info['img'][..., 0], grey)
        assert info['gt_label'] == digits.target[source]
    darkest = max(val.get_data_info(i)['img'].max() for i in range(300))
    assert darkest == 255


def test_a_batch_reaches_the_model_normalised():
    dataset = Digits(split='test', pipeline=[dict(type='PackInputs')])
    batch = default_collate([dataset[0], dataset[499]])
    assert batch['inputs'].shape == (2, 1, 8, 8)
    assert batch['inputs'].dtype == torch.uint8
    preprocessor = ClsDataPreprocessor(mean=[80.0], std=[90.0])
    inputs = preprocessor(batch)['inputs']
    torch.testing.assert_close(inputs, (batch['inputs'] - 80.0) / 90.0)


def test_indices_and_metainfo():
    few = Digits(split='val', indices=[3, 1], metainfo=dict(task='digits'))
    assert len(few) == 2
    assert few.metainfo['task'] == 'digits'
    whole = Digits(split='val')
    np.testing.assert_array_equal(few[0]['img'], whole[3]['img'])


def test_unknown_split():
    with pytest.raises(ValueError, match=r"got split='dev'.*dataset\.split"):
        Digits(split='dev')


def test_mean_and_std_in_the_config_are_those_of_the_training_images():
    train = Digits(split='train')
    images = np.stack([train.get_data_info(i)['img'] for i in range(997)])
    given = Config.fromfile(DATASET_CONFIG).data_preprocessor
    assert given.mean == [pytest.approx(images.mean(), abs=5e-3)]
    assert given.std == [pytest.approx(images.std(), abs=5e-2)]
