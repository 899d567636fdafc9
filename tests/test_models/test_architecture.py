# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Algorithms build networks that a user's own config describes."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.models import ClsDataPreprocessor, ImageClassifier
from mmpretrain.models.losses import CrossEntropyLoss
from mmpretrain.registry import MODELS
from mmrazor.models.distillers import ConfigurableDistiller

from reducenet_mm.models.algorithms import SupernetDistill
from reducenet_mm.models.architecture import add_scope
from tests.test_models.distillation import batch, soft_labels


class OwnClassifier(ImageClassifier):
    """A user's, in a package that is no toolbox."""


@pytest.mark.parametrize('algorithm', ['SupernetDistill', 'InplaceDistill'])
def test_a_network_without_a_scope_is_the_toolboxs(algorithm, classifier_cfg):
    network = classifier_cfg()
    network.pop('_scope_', None)
    model = MODELS.build(
        dict(_scope_='mmrazor', type=algorithm, architecture=network)
    )
    assert type(model.architecture) is ImageClassifier
    assert '_scope_' not in network


@pytest.mark.parametrize(
    ('architecture', 'scope'),
    [
        (dict(type='ImageClassifier'), 'mmpretrain'),
        (dict(type='ImageClassifier', _scope_='mmdet'), 'mmdet'),
        (dict(type='SearchableImageClassifier'), None),  # MMRazor's own
        (dict(type='mmpretrain.ImageClassifier'), 'mmpretrain'),
        (dict(type=ImageClassifier), 'mmpretrain'),
        (dict(type=OwnClassifier), 'mmpretrain'),  # by its base
        (dict(type=f'{__name__}.OwnClassifier'), 'mmpretrain'),  # in a file
        (dict(type=torch.nn.Identity), None),
        (dict(type='NoSuchThing'), None),
        (dict(), None),
    ],
)
def test_the_scope(architecture, scope):
    before = dict(architecture)
    with DefaultScope.overwrite_default_scope('mmrazor'):
        completed = add_scope(architecture)
    assert completed.pop('_scope_', None) == scope
    before.pop('_scope_', None)
    assert completed == before
    completed = add_scope(architecture, 'mmrazor')
    assert completed.get('_scope_') == scope


def test_a_name_that_the_scope_knows_stays_there():
    known = add_scope(dict(type='ImageClassifier'), 'mmpretrain')
    assert known == dict(type='ImageClassifier')


@pytest.mark.parametrize(
    'kind', ['mmpretrain.ImageClassifier', ImageClassifier]
)
def test_what_a_network_fills_in_is_its_toolboxs(kind, classifier_cfg):
    """MMRazor has another ``CrossEntropyLoss``, and no preprocessor."""
    network = dict(classifier_cfg(), type=kind)
    del network['_scope_'], network['data_preprocessor']
    del network['head']['loss']
    model = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=network,
            distiller=soft_labels(),
            reuse=dict(freeze=[]),
        )
    )
    assert type(model.architecture.head.loss_module) is CrossEntropyLoss
    assert isinstance(model.data_preprocessor, ClsDataPreprocessor)
    assert model.architecture.loss(*batch())['loss'] > 0


def test_a_distiller_is_mmrazors_whatever_the_scope(classifier_cfg):
    """New-style configs name the algorithm's class, and no scope."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(
                type=SupernetDistill,
                architecture=classifier_cfg(),
                distiller=soft_labels(),
                reuse=dict(freeze=[]),
            )
        )
    assert type(model.distiller) is ConfigurableDistiller
