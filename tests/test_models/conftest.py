# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Fixtures of the tests of SupernetDistill."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from mmrazor.registry import MODELS

from tests.conftest import randomise_norms
from tests.test_models.distillation import soft_labels


@pytest.fixture
def build(classifier_cfg, classifier):
    """Build the algorithm on the trained ``classifier`` as its teacher."""

    def _build(load=True, backbone=None, **settings: Any):
        settings.setdefault('distiller', soft_labels())
        algorithm = MODELS.build(
            dict(
                _scope_='mmrazor',
                type='SupernetDistill',
                architecture=classifier_cfg(**(backbone or {})),
                **settings,
            )
        )
        algorithm.init_weights()
        algorithm.recalibrated = True  # by hand, instead of the hook
        if load:
            algorithm.load_teacher(classifier.state_dict())
        return algorithm

    return _build


@pytest.fixture
def save(tmp_path):
    def _save(model, name='teacher.pth'):
        path = tmp_path / name
        torch.save(dict(state_dict=model.state_dict()), path)
        return str(path)

    return _save


@pytest.fixture
def inplace(classifier_cfg):
    """Build the algorithm around a network that is not at its start."""

    def build(backbone=None, **settings):
        settings.setdefault('distiller', soft_labels())
        torch.manual_seed(1)  # all of them have the same weights
        algorithm = MODELS.build(
            dict(
                _scope_='mmrazor',
                type='InplaceDistill',
                architecture=classifier_cfg(**(backbone or {})),
                **settings,
            )
        )
        randomise_norms(algorithm.architecture)
        torch.nn.init.normal_(algorithm.architecture.head.fc.weight)
        overlay = algorithm.teacher_overlay
        overlay.copy_(algorithm.architecture.state_dict())
        return algorithm

    return build


@pytest.fixture
def logged():
    """What MMEngine's current logger says; it does not propagate."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
