# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Algorithms build networks that a user's own config describes."""

from __future__ import annotations

import pytest
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS

from reducenet_mm.models.architecture import add_scope


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
        (dict(type='mmpretrain.ImageClassifier'), None),  # says it itself
        (dict(type=ImageClassifier), None),  # a class needs no scope
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
