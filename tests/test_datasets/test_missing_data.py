# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
import cv2
import numpy as np
import pytest
from mmpretrain.datasets import FashionMNIST
from mmpretrain.registry import DATASETS


class OfflineFashionMNIST(FashionMNIST):
    """Downloads from a port on which nobody listens."""

    url_prefix = 'http://127.0.0.1:9/'


def build(inner):
    cfg = dict(part='train', val_size=2, dataset=inner)
    return DATASETS.build(dict(type='HoldoutSplit', **cfg))


@pytest.mark.parametrize(
    'inner',
    [
        dict(type='CIFAR10', split='train', download=False),
        dict(type='CIFAR100', split='train', download=False),
        dict(type='FashionMNIST', split='train', download=False),
        dict(type=OfflineFashionMNIST, split='train'),
        dict(type='CustomDataset', data_prefix='train'),
        dict(type='CustomDataset', ann_file='list.txt'),
        dict(type='ImageNet', split='train'),
    ],
    ids=lambda inner: str(inner['type']) + inner.get('ann_file', ''),
)
def test_the_error_says_where_and_what_to_do(inner, tmp_path):
    root = tmp_path / 'data' / 'images'
    with pytest.raises(FileNotFoundError) as caught:
        build(dict(inner, data_root=str(root)))
    message = str(caught.value)
    assert f'data_root={str(root)!r}, that is {root}, does not' in message
    assert str(inner['type']) in message
    for key in ('train', 'val'):
        assert f'`{key}_dataloader.dataset.dataset.data_root`' in message
    assert '`test_dataloader.dataset.data_root`' in message
    # Not even the folder of a failed download is left.
    assert list(tmp_path.iterdir()) == []


def test_relative_root_is_spelt_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=str(tmp_path / 'here')):
        build(dict(type='CustomDataset', data_root='here'))


def test_incomplete_folder_is_kept(tmp_path):
    note = tmp_path / 'images' / 'note.txt'
    note.parent.mkdir()
    note.write_text('mine')
    inner = dict(type=OfflineFashionMNIST, data_root=str(note.parent))
    with pytest.raises(FileNotFoundError, match='lacks some of its files'):
        build(inner)
    inner = dict(type='CIFAR10', data_root=str(note.parent), download=False)
    with pytest.raises(RuntimeError, match='lacks some .*Cannot find CIFAR10'):
        build(inner)
    assert note.read_text() == 'mine'


def test_custom_dataset_that_is_there(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    for index in range(8):
        folder = tmp_path / 'train' / f'class{index % 2}'
        folder.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / f'{index}.png'), image)
    inner = dict(type='CustomDataset', data_prefix='train')
    train = build(dict(inner, data_root=str(tmp_path)))
    assert train.CLASSES == ('class0', 'class1')
    assert train.get_gt_labels().tolist() == [0, 0, 0, 1, 1, 1]


def test_misspelt_key_is_not_blamed_on_the_data(tmp_path):
    inner = dict(type='CustomDataset', data_rot=str(tmp_path))
    with pytest.raises((TypeError, AssertionError, RuntimeError)) as caught:
        build(dict(inner, data_root=str(tmp_path)))
    assert type(caught.value) is TypeError
    assert 'data_rot' in str(caught.value)
