# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The data of the exported config: stock parts wherever possible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, DefaultSampler, default_collate
from mmpretrain.datasets import CIFAR10, LoadImageFromFile, PackInputs
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import (
    ClsDataPreprocessor,
    GlobalAveragePooling,
    ImageClassifier,
    LinearClsHead,
)
from mmpretrain.registry import DATASETS, TRANSFORMS
from torch import nn

from reducenet_mm.datasets import Digits, LoadReadableImage, SeededSampler
from reducenet_mm.engine.toolbox import scope_of
from reducenet_mm.export.plain_config import plain_config, plain_files
from reducenet_mm.models import ReduceNet
from tests.tiny_data import TinyCIFAR10

CONFIGS = Path('configs/reducenet')
DIGITS = 'digits/reducenet8-w16-e4_digits_student.py'
FASHION = 'fashion-mnist/reducenet8-w16-e4_fashion-mnist_student.py'
CIFAR = 'cifar10/reducenet20-w16-e1_cifar10_student.py'
IMAGENET = 'imagenet/reducenet18-e1_imagenet_student.py'
VAL = ('val_dataloader', 'val_cfg', 'val_evaluator')
TEST = ('test_dataloader', 'test_cfg', 'test_evaluator')


class Detector:
    """As MMDetection's are, by its module."""

    __module__ = 'mmdet.models.detectors'


def test_a_class_says_whose_network_it_is() -> None:
    for kind, scope in ((Detector, 'mmdet'), (ImageClassifier, 'mmpretrain')):
        cfg = Config(dict(default_scope=None, model=dict(type=kind)))
        assert scope_of(cfg) == scope
    cfg = Config(dict(default_scope='mmseg', model=dict(type=nn.Module)))
    assert scope_of(cfg) == 'mmseg'
    assert scope_of(Config(dict(model=dict(type='A')))) == 'mmpretrain'
    own = Config(dict(default_scope='mmpretrain', model=dict(type='mine.A')))
    assert scope_of(own) == 'mmpretrain'


@pytest.mark.parametrize(
    'kind', ['ImageClassifier', 'mmpretrain.ImageClassifier']
)
def test_an_algorithms_scope_is_not_its_networks(kind: str) -> None:
    model = dict(type='SupernetDistill', architecture=dict(type=kind))
    cfg = Config(dict(default_scope='mmrazor', model=model))
    assert scope_of(cfg) == 'mmpretrain'
    assert 'architecture' in cfg.model  # and all else is as it was
    assert cfg.model.architecture == dict(type=kind)


def source(name: str) -> Config:
    return Config.fromfile(CONFIGS / name)


def read(files: dict[str, str], folder: Path) -> Config:
    for name, text in files.items():
        (folder / name).write_text(text, encoding='utf-8')
    return Config.fromfile(folder / 'student.py')


@pytest.mark.parametrize('name', [FASHION, CIFAR, IMAGENET])
def test_stock_data_need_nothing_of_this_package(
    name: str, tmp_path: Path
) -> None:
    cfg = source(name)
    text = plain_files(cfg)['student.py']
    note = [line for line in text.splitlines() if 'reducenet_mm' in line]
    assert len(note) == 1 and note[0].startswith('# Left out')
    assert all(key in text for key in VAL)
    written = read(plain_files(cfg), tmp_path)
    assert not set(VAL) & set(written)
    assert set(TEST) <= set(written)
    imports = written.get('custom_imports')
    backbone = dict(imports=['student_backbone'], allow_failed_imports=False)
    assert imports == (None if name == IMAGENET else backbone)
    assert written.test_evaluator == cfg.test_evaluator
    assert written.test_dataloader.sampler == cfg.test_dataloader.sampler


def test_our_image_loader_becomes_mmpretrains(tmp_path: Path) -> None:
    cfg = source(IMAGENET)
    first, *rest = cfg.test_dataloader.dataset.pipeline
    assert first.type == 'LoadReadableImage'
    first.update(max_unreadable=3, imdecode_backend='pillow')
    written = read(plain_files(cfg), tmp_path)
    assert written.test_dataloader.dataset.pipeline == [
        dict(type='LoadImageFromFile', imdecode_backend='pillow'),
        *rest,
    ]
    assert first.type == 'LoadReadableImage'  # cfg itself is left alone


def test_our_sampler_becomes_mmengines(classifier_cfg: Callable) -> None:
    cfg = Config(dict(model=classifier_cfg()))
    sampler = dict(type='SeededSampler', shuffle=False, round_up=False)
    cfg.test_dataloader = dict(dataset=dict(type='MNIST'), sampler=sampler)
    written = plain_config(cfg)
    assert written.test_dataloader.sampler == dict(
        sampler, type='DefaultSampler'
    )
    assert written.custom_imports.imports == ['student_backbone']


def test_our_data_set_is_imported_only_where_it_can_be(
    tmp_path: Path,
) -> None:
    files = plain_files(source(DIGITS))
    text = files['student.py']
    comment = ' '.join(
        line[2:] for line in text.splitlines() if line.startswith('# ')
    )
    assert 'evaluating on them needs it installed' in comment
    written = read(files, tmp_path)
    assert written.custom_imports == dict(
        imports=['student_backbone', 'reducenet_mm'],
        allow_failed_imports=True,
    )
    assert set(VAL + TEST) <= set(written)
    assert written.test_dataloader.dataset.type == 'Digits'


def test_a_part_of_the_users_own_keeps_its_import(
    classifier_cfg: Callable,
) -> None:
    cfg = Config(dict(model=classifier_cfg()))
    cfg.custom_imports = dict(imports=['reducenet_mm', 'tests.tiny_data'])
    assert 'tests.tiny_data' not in plain_files(cfg)['student.py']
    cfg.test_dataloader = dict(dataset=dict(type='TinyCIFAR10'))
    cfg.test_cfg, cfg.test_evaluator = {}, dict(type='Accuracy')
    namespace: dict[str, Any] = {}
    text = plain_files(cfg)['student.py']
    exec(text[text.index('custom_imports') :], namespace)
    assert namespace['custom_imports'] == dict(
        imports=['student_backbone', 'tests.tiny_data'],
        allow_failed_imports=False,
    )


CLASSES = (
    Accuracy,
    CIFAR10,
    DefaultSampler,
    Digits,
    GlobalAveragePooling,
    ImageClassifier,
    LinearClsHead,
    LoadImageFromFile,
    LoadReadableImage,
    PackInputs,
    ReduceNet,
    SeededSampler,
    default_collate,
)


def with_classes(value: Any) -> Any:
    """Return a part of a config as a new-style one has it."""
    if isinstance(value, dict):
        value = {key: with_classes(item) for key, item in value.items()}
        known = {one.__name__: one for one in CLASSES}
        known['BN'] = nn.BatchNorm2d  # registered under another name
        kind = value.get('type')
        return {**value, 'type': known.get(kind, kind)} if kind else value
    if isinstance(value, list):
        return [with_classes(item) for item in value]
    return value


@pytest.mark.parametrize('name', [DIGITS, CIFAR, IMAGENET])
@pytest.mark.parametrize('folded', [False, True])
def test_types_that_are_classes_are_written_by_name(
    name: str, folded: bool
) -> None:
    cfg = source(name)
    cfg.model.architecture.backbone.norm_cfg = dict(type='BN')
    cfg.test_dataloader.collate_fn = dict(type='default_collate')
    new_style = Config(with_classes(cfg.to_dict()))
    assert new_style.model.architecture.backbone.type is ReduceNet
    assert new_style.test_dataloader.collate_fn.type is default_collate
    written = plain_files(new_style, folded=folded)
    assert written == plain_files(cfg, folded=folded)


def test_a_class_of_the_users_own_is_written_by_its_address(
    classifier_cfg: Callable, tmp_path: Path
) -> None:
    cfg = Config(dict(model=classifier_cfg()))
    cfg.model.data_preprocessor.type = Preprocessor
    cfg.test_dataloader = dict(dataset=dict(type=TinyCIFAR10))
    written = read(plain_files(cfg), tmp_path)
    dataset = written.test_dataloader.dataset
    assert dataset.type == 'tests.tiny_data.TinyCIFAR10'
    assert DATASETS.get(dataset.type) is TinyCIFAR10
    preprocessor = written.data_preprocessor.type
    assert preprocessor == f'{__name__}.Preprocessor'
    assert written.custom_imports.imports == ['student_backbone']


class Preprocessor(ClsDataPreprocessor):
    """A user's own, which the exported config has to find."""


@pytest.mark.parametrize('load', [False, True])
def test_a_grey_student_takes_grey_images_as_they_are_and_coloured_ones(
    load: bool, classifier_cfg: Callable, tmp_path: Path
) -> None:
    steps = [dict(type='PackInputs')]
    if load:
        steps.insert(0, dict(type='LoadImageFromFile', color_type='unchanged'))
    cfg = Config(dict(model=classifier_cfg(in_channels=1)))
    cfg.test_dataloader = dict(dataset=dict(type='MNIST', pipeline=steps))
    written = read(plain_files(cfg), tmp_path)
    added = written.test_dataloader.dataset.pipeline
    assert [step.type for step in added if step not in steps] == [
        'RandomGrayscale'
    ]
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    coloured = np.repeat(image[..., None], 3, axis=-1)
    with_grey, without = (
        Compose([TRANSFORMS.build(step) for step in part[int(load) :]])
        for part in (added, steps)
    )
    wanted = without(dict(img=image))['inputs']
    assert wanted.shape == (1, 16, 16)
    for given in (image, image[..., None], coloured):
        got = with_grey(dict(img=given))['inputs']
        assert got.dtype == torch.uint8 and torch.equal(got, wanted)


def test_floats_are_not_rounded_for_a_grey_student(
    classifier_cfg: Callable,
) -> None:
    steps = [dict(type='LoadImageFromFile', to_float32=True)]
    cfg = Config(dict(model=classifier_cfg(in_channels=1)))
    cfg.test_dataloader = dict(dataset=dict(type='MNIST', pipeline=steps))
    assert plain_config(cfg).test_dataloader == cfg.test_dataloader


def test_a_coloured_students_pipeline_stays_as_it_is(tmp_path: Path) -> None:
    cfg = source(CIFAR)
    written = read(plain_files(cfg), tmp_path)
    assert written.test_dataloader == cfg.test_dataloader
