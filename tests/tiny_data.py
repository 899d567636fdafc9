# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A few images in the file formats of the data sets that configs name.

Each set has two classes, the first and the last one: 3 training images of
each and 3 test images, all distinct.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config, ConfigDict
from mmpretrain.datasets import CIFAR10, CIFAR100
from mmpretrain.registry import DATASETS

SIDES = (0, 1, 0, 1, 0, 1)


@DATASETS.register_module()
class TinyCIFAR10(CIFAR10):
    """CIFAR-10 read from other files, hence without their checksums."""

    train_list = [['data_batch_1', None]]
    test_list = [['test_batch', None]]


@DATASETS.register_module()
class TinyCIFAR100(CIFAR100):
    """CIFAR-100 read from other files, hence without their checksums."""

    train_list = [['train', None]]
    test_list = [['test', None]]


def use_tiny_data(cfg: Config, root: Path) -> Config:
    """Write a few images and let a config read them, in place.

    Pipelines, splits and everything else stay as they are, only sizes shrink:
    4 training images in one batch, 2 validation and 3 test images.
    """
    for field in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg[field]
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        outer = loader.dataset
        if outer.type == 'HoldoutSplit':
            outer.update(val_size=2, train_size=None)
        inner = outer.get('dataset', outer)
        WRITERS[inner.type](inner, root)
    return cfg


def _digits(dataset: ConfigDict, root: Path) -> None:
    dataset.indices = {'train': 4, 'val': 2, 'test': 3}[dataset.split]


def _fashion_mnist(dataset: ConfigDict, root: Path) -> None:
    dataset.data_root = str(root)
    rng = np.random.RandomState(0)
    for name, labels in (
        ('train', [9 * side for side in SIDES]),
        ('t10k', [0, 9, 9]),
    ):
        images = rng.randint(0, 256, (len(labels), 28, 28), np.uint8)
        head = struct.pack('>4i', 0x803, *images.shape)
        (root / f'{name}-images-idx3-ubyte').write_bytes(
            head + images.tobytes()
        )
        head = struct.pack('>2i', 0x801, len(labels))
        (root / f'{name}-labels-idx1-ubyte').write_bytes(head + bytes(labels))


def _cifar(last: int, key: str, names: tuple[str, str]) -> Callable:
    def write(dataset: ConfigDict, root: Path) -> None:
        dataset.update(type=f'Tiny{dataset.type}', data_root=str(root))
        cls = DATASETS.get(dataset.type)
        folder = root / cls.base_folder
        folder.mkdir(exist_ok=True)
        rng = np.random.RandomState(0)
        for name, count in zip(names, (6, 3), strict=True):
            content = dict(data=rng.randint(0, 256, (count, 3072), np.uint8))
            content[key] = [last * side for side in SIDES[:count]]
            (folder / name).write_bytes(pickle.dumps(content))

    return write


def _imagenet(dataset: ConfigDict, root: Path) -> None:
    dataset.data_root = str(root)
    rng = np.random.RandomState(0)
    (root / 'meta').mkdir(exist_ok=True)
    for split, count in (('train', 6), ('val', 3)):
        (root / split).mkdir(exist_ok=True)
        lines = []
        for index in range(count):
            # Portrait, landscape, larger and smaller than the crop.
            shape = (180 + 60 * index, 420 - 50 * index, 3)
            image = rng.randint(0, 256, shape, np.uint8)
            assert cv2.imwrite(str(root / split / f'{index}.jpg'), image)
            lines.append(f'{index}.jpg {999 * SIDES[index]}')
        (root / 'meta' / f'{split}.txt').write_text('\n'.join(lines))


def _folders(dataset: ConfigDict, root: Path) -> None:
    dataset.data_root = str(root)
    rng = np.random.RandomState(0)
    for split, count in (('train', 6), ('test', 3)):
        for index, side in enumerate(SIDES[:count]):
            folder = root / split / ('airplane', 'truck')[side]
            folder.mkdir(parents=True, exist_ok=True)
            image = rng.randint(0, 256, (32, 32, 3), np.uint8)
            assert cv2.imwrite(str(folder / f'{index:04}.jpg'), image)


WRITERS: dict[str, Callable[[ConfigDict, Path], None]] = {
    'Digits': _digits,
    'FashionMNIST': _fashion_mnist,
    'CIFAR10': _cifar(9, 'labels', ('data_batch_1', 'test_batch')),
    'CIFAR100': _cifar(99, 'fine_labels', ('train', 'test')),
    'ImageNet': _imagenet,
    'CustomDataset': _folders,
}
