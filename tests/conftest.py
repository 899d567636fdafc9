# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What all tests share: few threads, a seed, and tiny real classifiers."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import mmengine.config.config
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import reducenet_mm  # noqa: F401  registers everything

torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', 2)))
# MMEngine collects garbage often, and need not visit all that is imported.
gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        '--full-matrix',
        action='store_true',
        help='test all combinations of block, schedule, reuse and '
        'distillation instead of all pairs',
    )


@pytest.fixture(scope='session', autouse=True)
def _plain_config_texts() -> Iterator[None]:
    """Leave out yapf, most of the time of a Runner with a few iterations.

    Every Runner writes its config several times, laid out nicely.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            mmengine.config.config,
            'FormatCode',
            lambda text, **style: (text, True),
        )
        yield


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_scope() -> None:
    """Start as a process does: Runners leave their default scope behind."""
    DefaultScope._instance_dict.clear()


@pytest.fixture
def classifier_cfg() -> Callable[..., dict]:
    """Config of a ReduceNet-8 of width 4 on 3-channel images, 5 classes."""

    def build(**backbone: Any) -> dict:
        backbone = dict(
            dict(type='ReduceNet', depth=8, base_channels=4, expansion=2),
            **backbone,
        )
        return dict(
            _scope_='mmpretrain',
            type='ImageClassifier',
            data_preprocessor=dict(
                num_classes=5, mean=[0.0] * 3, std=[1.0] * 3
            ),
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead',
                num_classes=5,
                in_channels=4 * backbone.get('base_channels', 4),
                loss=dict(type='CrossEntropyLoss'),
            ),
        )

    return build


@pytest.fixture
def classifier(classifier_cfg: Callable[..., dict]) -> nn.Module:
    """A classifier whose norms hold nothing trivial, as after training."""
    model = randomise_norms(MODELS.build(classifier_cfg()))
    nn.init.normal_(model.head.fc.weight)
    return model


def randomise_norms(model: nn.Module) -> nn.Module:
    """Give every batch norm random scales, shifts and statistics."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model
