# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Exported folders of every kind, and what they were exported from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from torch import nn

from reducenet_mm import set_scaler
from reducenet_mm.export import ExportOptions, export_student
from tests.conftest import randomise_norms

CLASSES = ('ant', 'bee', 'cat', 'dog', 'eel')

FOLDERS: dict[str, dict[str, Any]] = {
    'postsum': dict(depth=8),
    'parallel': dict(depth=14, block='parallel'),
    'imagenet': dict(depth=18, block='sequential'),
    'stock': dict(depth=18),
    'digits': dict(depth=8, in_channels=1),
    'holdout': dict(depth=8),
    'repeated': dict(depth=8),
    'validation': dict(depth=8),
    'both': dict(depth=8),
}
"""Exported folder -> settings of its supernet."""

FOLDED = ('stock', 'parallel')

BACKBONES = dict(
    postsum='StudentResNet_CIFAR',
    parallel='StudentResNet_CIFAR',
    imagenet='StudentResNet',
    stock='ResNet',
    digits='StudentResNet_CIFAR',
    holdout='StudentResNet_CIFAR',
    repeated='StudentResNet_CIFAR',
    validation='StudentResNet_CIFAR',
    both='StudentResNet_CIFAR',
)


def wrapped(name: str, dataset: dict[str, Any]) -> dict[str, Any]:
    """Return the test set of a folder that is named after its wrapper."""
    wrappers = dict(
        holdout=dict(
            type='HoldoutSplit', part='val', val_size=5, dataset=dataset
        ),
        repeated=dict(type='RepeatDataset', times=2, dataset=dataset),
        both=dict(type='ConcatDataset', datasets=[dataset, dataset]),
    )
    return wrappers.get(name, dataset)


def training_config(name: str, images: Path) -> Config:
    """Return a config as one trains with, of a narrow network."""
    backbone = dict(FOLDERS[name], type='ReduceNet', base_channels=4)
    backbone['expansion'] = 2
    channels = backbone.get('in_channels', 3)
    widths = 32 if backbone['depth'] == 18 else 16
    model = dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=5,
            in_channels=widths,
            loss=dict(type='CrossEntropyLoss'),
        ),
    )
    dataset = dict(
        type='CustomDataset',
        data_root=str(images),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    )
    if name == 'digits':
        pack = [dict(type='PackInputs')]
        dataset = dict(type='Digits', split='test', pipeline=pack)
    part = 'val' if name == 'validation' else 'test'
    loader = dict(
        batch_size=4,
        num_workers=0,
        dataset=wrapped(name, dataset),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    evaluation = {
        f'{part}_dataloader': loader,
        f'{part}_evaluator': dict(type='Accuracy', topk=(1,)),
        f'{part}_cfg': dict(),
    }
    preprocessor = dict(
        num_classes=5, mean=[110.0] * channels, std=[70.0] * channels
    )
    return Config(
        dict(model=model, data_preprocessor=preprocessor, **evaluation)
    )


def build_supernet(cfg: Config) -> nn.Module:
    preprocessor = dict(type='ClsDataPreprocessor', **cfg.data_preprocessor)
    model = MODELS.build(dict(cfg.model, data_preprocessor=preprocessor))
    nn.init.normal_(model.head.fc.weight)
    return randomise_norms(model).eval()


def export_folder(root: Path, name: str, cfg: Config) -> nn.Module:
    """Export a random supernet to ``root/name``, return it at scaler 0."""
    supernet = build_supernet(cfg)
    checkpoint = root / f'{name}.pth'
    meta = dict(epoch=1, dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=supernet.state_dict(), meta=meta), checkpoint)
    options = ExportOptions(fold=name in FOLDED)
    folder = root / name
    export_student(cfg, checkpoint, folder, options)
    set_scaler(supernet, 0.0)
    return supernet


def write_images(folder: Path) -> Path:
    """Write two PNG files of each class, return the folder."""
    rng = np.random.RandomState(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for index in range(2):
            image = rng.randint(0, 256, (14, 12, 3), np.uint8)
            path = str(folder / name / f'{name}{index}.png')
            assert cv2.imwrite(path, image)
    return folder
