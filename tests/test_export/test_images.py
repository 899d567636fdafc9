# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The images an export is compared, measured and calibrated on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.datasets import CIFAR10, CustomDataset
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from reducenet_mm.datasets import Digits
from reducenet_mm.export.images import ImageSource

SPLITS = ('train', 'val')
PER_CLASS = 35  # two classes are more than one batch of images
MEAN, STD = 10.0, 2.0
TRAIN_SIDE, VAL_SIDE = 6, 3  # of what each pipeline makes of 4x4 pixels


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 70 images a split, whose pixels all have one value.

    It is 100 more in the validation set, 50 more in the second class.
    """
    root = tmp_path_factory.mktemp('images')
    for value in (*range(2 * PER_CLASS), *range(100, 100 + 2 * PER_CLASS)):
        split, place = divmod(value, 100)
        label, index = divmod(place, PER_CLASS)
        folder = root / SPLITS[split] / f'class{label}'
        folder.mkdir(parents=True, exist_ok=True)
        image = np.full((4, 4, 3), 100 * split + 50 * label + index, np.uint8)
        assert cv2.imwrite(str(folder / f'{index:02}.png'), image)
    return root


def folder(root: Path, split: str) -> dict[str, Any]:
    """Config of a split; its pipeline shows in the size of the images."""
    resize = dict(
        train=dict(type='Resize', scale=TRAIN_SIDE),
        val=dict(type='CenterCrop', crop_size=VAL_SIDE),
    )
    return dict(
        type='CustomDataset',
        data_root=str(root),
        data_prefix=split,
        pipeline=[
            dict(type='LoadImageFromFile'),
            resize[split],
            dict(type='PackInputs'),
        ],
    )


@pytest.fixture
def cfg(root: Path) -> Config:
    return Config(
        dict(
            train_dataloader=dict(dataset=folder(root, 'train')),
            val_dataloader=dict(dataset=folder(root, 'val')),
        )
    )


@pytest.fixture
def model(classifier_cfg: Callable[..., dict]) -> nn.Module:
    model_cfg = classifier_cfg()
    model_cfg['data_preprocessor'].update(mean=[MEAN] * 3, std=[STD] * 3)
    return MODELS.build(model_cfg)


def values(images: Tensor) -> list[int]:
    """Return the pixel value of each file, from preprocessed images."""
    assert images.shape[1:] == (3, VAL_SIDE, VAL_SIDE)
    pixels = (images * STD + MEAN).flatten(1)
    assert (pixels == pixels[:, :1]).all()
    return [int(value) for value in pixels[:, 0]]


def whole(split: str) -> list[int]:
    """Return the values of a split in the order of its files."""
    start = 100 * SPLITS.index(split)
    first = range(start, start + PER_CLASS)
    return [*first, *(value + 50 for value in first)]


def check_drawn(drawn: list[int], count: int, split: str) -> None:
    """Check that images are different ones, of one split and both classes."""
    assert len(drawn) == len(set(drawn)) == count
    assert set(drawn) <= set(whole(split))
    second = sum(value % 100 >= 50 for value in drawn)
    assert count / 4 <= second <= count * 3 / 4


def test_compared_are_validation_images_of_all_classes(
    cfg: Config, model: nn.Module
) -> None:
    source = ImageSource(cfg, model)
    images = source.to_compare()
    assert list(images) == ['validation', 'random']
    check_drawn(values(images['validation']), 16, 'val')
    assert images['random'].shape == images['validation'].shape
    assert source.missing == {}


def test_measured_are_validation_images_with_their_own_labels(
    cfg: Config, model: nn.Module
) -> None:
    crop = (VAL_SIDE, VAL_SIDE)  # MMCV takes no list
    cfg.val_dataloader.dataset.pipeline[1].crop_size = crop
    for limit in (20, 66, None, 1000):
        batches = list(ImageSource(cfg, model).validation(limit))
        drawn = values(torch.cat([images for images, _ in batches]))
        labels = torch.cat([labels for _, labels in batches])
        assert labels.tolist() == [value % 100 // 50 for value in drawn]
        check_drawn(drawn, min(limit or 70, 70), 'val')
    assert drawn == whole('val')


def test_calibration_takes_training_images_as_validation_prepares_them(
    cfg: Config, model: nn.Module
) -> None:
    before = cfg.to_dict()
    source = ImageSource(cfg, model)
    few = source.calibration(20)
    check_drawn(values(torch.cat(few)), 20, 'train')
    batches = source.calibration(1000)
    assert [len(batch) for batch in batches] == [64, 6]
    assert values(torch.cat(batches)) == whole('train')
    assert source.missing == {}
    assert cfg.to_dict() == before


def test_images_neither_depend_on_the_global_random_state_nor_move_it(
    cfg: Config, model: nn.Module
) -> None:
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
        source = ImageSource(cfg, model)
        compared = source.to_compare()
        (measured, _), *_ = source.validation(16)
        (calibration,) = source.calibration(16)
        drawn.append(torch.cat([*compared.values(), measured, calibration]))
        assert torch.equal(torch.get_rng_state(), torch_state)
        np.testing.assert_equal(np.random.get_state(), numpy_state)
    assert torch.equal(*drawn)
    assert torch.equal(compared['validation'], measured)


def test_every_data_set_inside_wrappers_gets_the_validation_pipeline(
    cfg: Config, model: nn.Module, root: Path
) -> None:
    train, val = cfg.train_dataloader, cfg.val_dataloader
    both = dict(type='ConcatDataset', datasets=[train.dataset, train.dataset])
    split = dict(
        type='HoldoutSplit', part='train', val_size=10, dataset=train.dataset
    )
    twice = dict(type='RepeatDataset', times=2, dataset=both)
    train.dataset = dict(type='ConcatDataset', datasets=[split, twice])
    val.dataset = dict(type='ConcatDataset', datasets=[val.dataset])
    drawn = values(torch.cat(ImageSource(cfg, model).calibration(1000)))
    assert len(drawn) == 60 + 4 * 70
    assert drawn[60:] == 4 * whole('train')
    check_drawn(drawn[:60], 60, 'train')


def test_a_pipeline_may_be_the_default_of_the_data_set(
    cfg: Config, model: nn.Module
) -> None:
    steps = cfg.val_dataloader.dataset.pop('pipeline')

    class Prepared(CustomDataset):
        def __init__(self, pipeline: Any = steps, **kwargs: Any) -> None:
            super().__init__(pipeline=pipeline, **kwargs)

    for loader in ('train_dataloader', 'val_dataloader'):
        cfg[loader].dataset.type = Prepared
    drawn = values(torch.cat(ImageSource(cfg, model).calibration(1000)))
    assert drawn == whole('train')


@pytest.fixture
def digits() -> tuple[Config, nn.Module]:
    """A digits config; both loaders hold a part of the training digits."""
    cfg = Config.fromfile(
        'configs/reducenet/digits/reducenet8-w16-e4_digits_teacher.py'
    )
    for part in SPLITS:
        loader = cfg[f'{part}_dataloader']
        inner = dict(loader.dataset, split='train')
        loader.dataset = dict(
            type='HoldoutSplit', part=part, val_size=100, dataset=inner
        )
    model_cfg = dict(cfg.model, data_preprocessor=cfg.data_preprocessor)
    return cfg, MODELS.build(model_cfg)


def test_parts_of_one_training_set_stay_apart(
    digits: tuple[Config, nn.Module],
) -> None:
    pixels = [sample['img'].flatten() for sample in Digits(split='train')]
    number = {image.tobytes(): index for index, image in enumerate(pixels)}
    assert len(number) == 997
    labels = Digits(split='train').get_gt_labels()

    def numbers(images: Tensor) -> list[int]:
        raw = (images * 95.90 + 77.81).round().to(torch.uint8).flatten(1)
        return [number[image.numpy().tobytes()] for image in raw]

    source = ImageSource(*digits)
    compared = numbers(source.to_compare()['validation'])
    ((images, answers),) = source.validation(50)
    measured = numbers(images)
    assert answers.tolist() == labels[measured].tolist()
    assert len(set(answers.tolist())) == 10
    ((everything, _), (rest, _)) = source.validation()
    held_out = {*numbers(everything), *numbers(rest)}
    assert len(held_out) == 100
    assert {*compared, *measured} <= held_out
    calibration = numbers(torch.cat(source.calibration(1000)))
    assert len(set(calibration)) == 897
    assert not held_out & set(calibration)


@pytest.mark.parametrize(
    'dataset',
    [
        dict(type='CustomDataset', data_prefix='val'),
        dict(type='CIFAR10', split='train'),  # would download by itself
        dict(type=CIFAR10, split='train'),
        dict(type='ImageNet', split='val'),
    ],
    ids=lambda dataset: str(dataset['type']),
)
def test_data_that_are_not_here_are_named_with_the_reason(
    cfg: Config, model: nn.Module, tmp_path: Path, dataset: dict
) -> None:
    absent = tmp_path / 'absent'
    inner = dict(dataset, data_root=str(absent))
    split = dict(type='HoldoutSplit', part='val', val_size=10, dataset=inner)
    cfg.val_dataloader.dataset = split
    source = ImageSource(cfg, model)
    assert list(source.missing) == ['val_dataloader']
    assert f'{absent}, does not exist' in source.missing['val_dataloader']
    assert '\n' not in source.missing['val_dataloader']
    assert list(source.to_compare()) == ['random']
    assert list(source.validation()) == []
    cfg.train_dataloader.dataset = inner
    with pytest.raises(ValueError, match=r'train_dataloader.*--int8') as error:
        source.calibration(4)
    assert list(source.missing) == ['val_dataloader', 'train_dataloader']
    assert source.missing['train_dataloader'] in str(error.value)
    assert not absent.exists()


def test_an_empty_set_and_an_absent_loader_are_missing_too(
    cfg: Config, model: nn.Module
) -> None:
    cfg.val_dataloader.dataset.update(indices=[], serialize_data=False)
    source = ImageSource(cfg, model)
    assert source.missing == dict(val_dataloader='it has no images')
    assert list(source.to_compare()) == ['random']
    reason = 'the config has no val_dataloader.dataset'
    for loader in (None, dict(batch_size=4)):
        cfg.val_dataloader = loader
        source = ImageSource(cfg, model)
        assert source.missing == dict(val_dataloader=reason)
        assert list(source.to_compare()) == ['random']


@pytest.mark.parametrize(('kind', 'side'), [('_CIFAR', 32), ('', 224)])
def test_without_data_the_layout_says_how_big_an_image_is(
    cfg: Config, kind: str, side: int
) -> None:
    cfg.val_dataloader = None
    network = nn.Module()
    network.backbone = MODELS.build(dict(type=f'ResNet{kind}', depth=18))
    images = ImageSource(cfg, network).to_compare()
    assert images['random'].shape[1:] == (3, side, side)


@pytest.mark.parametrize('wrapped', [False, True])
@pytest.mark.parametrize(
    ('change', 'what'),
    [
        (dict(type='CustomDatset'), 'CustomDatset is not in'),
        (dict(data_rot='x'), 'data_rot'),
    ],
)
def test_errors_of_the_config_are_no_missing_data(
    cfg: Config, model: nn.Module, change: dict, what: str, wrapped: bool
) -> None:
    source = ImageSource(cfg, model)
    for loader in ('train_dataloader', 'val_dataloader'):
        dataset = dict(cfg[loader].dataset, **change)
        if wrapped:
            dataset = dict(
                type='HoldoutSplit', part='val', val_size=4, dataset=dataset
            )
        cfg[loader].dataset = dataset
    match = rf'val_dataloader.*{what}.*`val_dataloader\.dataset\.type`'
    with pytest.raises(ValueError, match=match):
        ImageSource(cfg, model)
    with pytest.raises(ValueError, match=match.replace('val_d', 'train_d')):
        source.calibration(4)
    assert source.missing == {}


@pytest.mark.parametrize('loader', [None, dict(batch_size=4)])
def test_calibration_needs_to_know_how_validation_prepares_images(
    cfg: Config, model: nn.Module, loader: dict | None
) -> None:
    cfg.val_dataloader = loader
    match = r'--int8.*train_dataloader.*val_dataloader.*leave out --int8'
    with pytest.raises(ValueError, match=match):
        ImageSource(cfg, model).calibration(4)


def test_images_of_different_sizes_are_not_padded(
    cfg: Config, model: nn.Module, tmp_path: Path
) -> None:
    sides = [4, 4, 5, 4, 6, 6]
    folder = tmp_path / 'val' / 'class0'
    folder.mkdir(parents=True)
    for index, side in enumerate(sides):
        image = np.full((side, side, 3), 9, np.uint8)
        assert cv2.imwrite(str(folder / f'{index}.png'), image)
    cfg.val_dataloader.dataset.data_root = str(tmp_path)
    del cfg.val_dataloader.dataset.pipeline[1]
    source = ImageSource(cfg, model)
    batches = [images for images, _ in source.validation()]
    assert [tuple(one.shape) for one in batches] == [
        (2, 3, 4, 4),
        (1, 3, 5, 5),
        (1, 3, 4, 4),
        (2, 3, 6, 6),
    ]
    assert all((one == (9 - MEAN) / STD).all() for one in batches)
    compared = source.to_compare()['validation']  # three are of one size
    assert compared.shape == (3, 3, 4, 4)
