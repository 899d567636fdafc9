# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Images that cannot be read: an error, or replaced, counted and logged."""

from __future__ import annotations

import copy
import os
import pickle
import re
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from torch.utils.data import DataLoader

from reducenet_mm.datasets import LoadReadableImage

from .training import logged, small_cfg, train

IMAGES = 12
BROKEN = (0, 3)
"""Of an unshuffled epoch in batches of 2, one for each of two workers."""


def encode(suffix: str = '.jpg', *options: int, seed: int = 0) -> bytes:
    pixels = np.random.RandomState(seed).randint(0, 256, (9, 12, 3), np.uint8)
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of two classes; two of them cannot be read."""
    for index in range(IMAGES):
        path = tmp_path / 'data' / f'{index // 6}' / f'{index:02}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        data = b'no image' if index in BROKEN else encode(seed=index)
        path.write_bytes(data)
    return tmp_path / 'data'


def broken_files(folder: Path) -> list[str]:
    return [str(folder / f'0/{index:02}.jpg') for index in BROKEN]


def image_cfg(
    folder: Path, run: str, limit: int, workers: int, epochs=1, method=None
):
    """Config of a training on the folder, in batches of 2, not shuffled."""
    cfg = small_cfg(folder.with_name(run), epochs)
    cfg.model.backbone.in_channels = 3
    cfg.data_preprocessor.update(mean=[127.5] * 3, std=[60.0] * 3)
    load = dict(type='LoadReadableImage', max_unreadable=limit)
    pack = [dict(type='CenterCrop', crop_size=8), dict(type='PackInputs')]
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.batch_size = 2
        loader.dataset = dict(
            type='CustomDataset', data_root=str(folder), pipeline=[load, *pack]
        )
    cfg.train_dataloader.num_workers = workers
    cfg.train_dataloader.persistent_workers = workers > 0
    cfg.train_dataloader.multiprocessing_context = method
    cfg.train_dataloader.sampler = dict(type='SeededSampler', shuffle=False)
    seed, flip = dict(type='SeedSample'), dict(type='RandomFlip', prob=0.5)
    cfg.train_dataloader.dataset.pipeline = [seed, load, flip, *pack]
    return cfg


def without_validation(cfg):
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    return cfg


FAULTS = {
    'missing': (None, 'No such file'),
    'empty': (b'', 'the file is empty'),
    'text': (b'no image', 'cv2 cannot decode it'),
    'cut_jpeg': (encode()[:-2], 'JPEG file ends within the picture'),
    'cut_png': (encode('.png')[:-30], 'cv2 cannot decode it'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_an_unreadable_image_is_an_error_that_names_it(tmp_path, fault):
    data, cause = FAULTS[fault]
    path = tmp_path / 'image.jpg'
    if data is not None:
        path.write_bytes(data)
    # Also where some may be replaced, but not by this pipeline.
    for load in (LoadReadableImage(), LoadReadableImage(max_unreadable=9)):
        with pytest.raises(RuntimeError) as error:
            load(dict(img_path=str(path)))
        assert str(error.value).startswith(f'{path} cannot be read (')
        assert cause in str(error.value)
        assert 'UnreadableImagesHook' in str(error.value)


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_a_readable_image_is_loaded_as_mmcv_does(tmp_path, suffix):
    path = tmp_path / f'image{suffix}'
    path.write_bytes(encode(suffix))
    results = LoadReadableImage(to_float32=True)(dict(img_path=str(path)))
    assert np.array_equal(results['img'], mmcv.imread(path))
    assert results['img'].dtype == np.float32
    assert results['img_shape'] == results['ori_shape'] == (9, 12)
    assert LoadReadableImage()(dict(img=1)) == dict(img=1)  # loaded before


@pytest.mark.parametrize('workers', [0, 2])
def test_training_stops_at_the_first_by_default(folder, workers):
    with pytest.raises(RuntimeError) as error:
        train(image_cfg(folder, 'run', 0, workers))
    message = str(error.value)
    assert f'{broken_files(folder)[0]} cannot be read' in message
    assert 'set max_unreadable (here 0)' in message


def test_replaced_images_are_logged_counted_and_reproducible(folder, capfd):
    weights = []
    for workers, method in ((0, None), (2, None), (2, 'spawn')):
        run = f'{method}{workers}'
        cfg = image_cfg(folder, run, 2, workers, epochs=2, method=method)
        capfd.readouterr()
        runner = train(without_validation(cfg))
        weights.append(runner.model.state_dict())
        log = logged(folder.with_name(run))
        if method == 'spawn':  # its workers do not know the log file
            assert 'cannot be read' not in log
            log += capfd.readouterr().out
        for path in broken_files(folder):
            assert log.count(f'{path} cannot be read') == 1
        numbers = re.findall(r'unreadable file (\d) of at most 2', log)
        assert sorted(numbers) == ['1', '2']
        replaced = re.findall(
            r'(\d+) images of epoch (\d) were unreadable and replaced by '
            r'others \(2 files so far, of at most 2\)',
            logged(folder.with_name(run)),
        )
        assert [epoch for _, epoch in replaced] == ['1', '2']
        counts = [int(count) for count, _ in replaced]
        assert min(counts) >= len(BROKEN)
        load = runner.train_dataloader.dataset.pipeline.transforms[1]
        assert sum(counts) == load.unreadable.meetings
    first, *others = weights
    for other in others:
        assert all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize('method', [None, 'spawn'])
def test_more_than_allowed_are_an_error_also_across_workers(folder, method):
    cfg = image_cfg(folder, 'run', 1, 2, method=method)
    with pytest.raises(RuntimeError) as error:
        train(without_validation(cfg))
    first, second = broken_files(folder)
    message = str(error.value)
    assert 'more files than max_unreadable=1 allows' in message
    assert (first in message) != (second in message)


def test_validation_never_replaces_an_image(folder):
    cfg = image_cfg(folder, 'run', 9, 0)
    with pytest.raises(RuntimeError) as error:
        train(cfg)
    assert 'In validation and test no image is replaced' in str(error.value)
    assert (folder.with_name('run') / 'epoch_1.pth').is_file()
    with pytest.raises(RuntimeError, match=broken_files(folder)[0]):
        Runner.from_cfg(cfg).val()


def test_without_the_hook_nothing_is_replaced(folder):
    cfg = image_cfg(folder, 'run', 9, 0)
    del cfg.default_hooks['unreadable_images']
    with pytest.raises(RuntimeError, match='UnreadableImagesHook in default'):
        train(cfg)


def test_a_subset_counts_together_with_the_data_set(folder):
    cfg = image_cfg(folder, 'run', 2, 0).train_dataloader.dataset
    dataset = DATASETS.build(dict(cfg, pipeline=cfg.pipeline[1:2]))
    subset = dataset.get_subset([0, 3])
    load, copied = (
        data.pipeline.transforms[0].unreadable for data in (dataset, subset)
    )
    assert [load.add('a'), copied.add('b'), copied.add('a')] == [1, 2, None]
    assert len(load) == 2
    assert load.meetings == 3
    with pytest.raises(OverflowError):
        copy.deepcopy(load).add('c')


@pytest.mark.parametrize(
    ('method', 'limit'), [('forkserver', 2), ('spawn', 0)]
)
def test_workers_need_not_be_forked(folder, method, limit):
    if not limit:
        for path in broken_files(folder):
            Path(path).unlink()
    cfg = image_cfg(folder, 'run', limit, 0).train_dataloader.dataset
    dataset = DATASETS.build(dict(cfg, pipeline=cfg.pipeline[1:2]))
    load = dataset.pipeline.transforms[0]
    load.replaces = limit > 0
    batches = DataLoader(
        dataset,
        batch_size=2,
        num_workers=2,
        collate_fn=pseudo_collate,
        multiprocessing_context=method,
    )
    images = [image for batch in batches for image in batch['img']]
    assert len(images) == len(dataset)
    for index, image in enumerate(images):
        if not limit or index not in BROKEN:
            assert np.array_equal(image, dataset[index]['img'])
    assert len(load.unreadable) == limit
    assert load.unreadable.meetings >= limit


@pytest.mark.parametrize('limit', [0, 2])
def test_it_pickles_with_an_empty_set_of_its_own(tmp_path, limit):
    path = tmp_path / 'image.jpg'
    path.write_bytes(encode())
    load = LoadReadableImage(max_unreadable=limit)
    if limit:
        load.unreadable.add('a')
    copied = pickle.loads(pickle.dumps(load))
    assert np.array_equal(
        copied(dict(img_path=path))['img'], mmcv.imread(path)
    )
    for count in range(limit):
        assert copied.unreadable.add(f'{count}') == count + 1
    with pytest.raises(OverflowError):
        copied.unreadable.add('b')
    assert len(load.unreadable) == load.unreadable.meetings == (limit > 0)


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match='max_unreadable must be >= 0'):
        LoadReadableImage(max_unreadable=-1)


def test_a_file_whose_name_is_no_text_is_replaced_too(
    tmp_path: Path,
) -> None:
    folder = os.fsencode(tmp_path)
    with open(folder + b'/bad\xff.jpg', 'wb') as file:
        file.write(b'no picture')
    (name,) = os.listdir(tmp_path)
    load = LoadReadableImage(max_unreadable=1)
    load.replaces = True
    assert load.transform(dict(img_path=str(tmp_path / name))) is None
    assert len(load.unreadable) == 1
