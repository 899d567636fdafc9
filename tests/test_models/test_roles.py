# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Roles: names for parts of the student, whatever the host."""

from __future__ import annotations

import pytest
from mmpretrain.models import ResNet, ResNetV1d
from torch import nn

from reducenet_mm import graft
from reducenet_mm.models import ReduceNet
from reducenet_mm.models.roles import (
    ROLES,
    match_parameters,
    parameters_by_role,
)
from reducenet_mm.models.supernet import is_branch_key, student_norms


def test_roles_of_a_reducenet(classifier):
    roles = parameters_by_role(classifier)
    block, norm = 'backbone.layer2.0', ('weight', 'bias')
    assert roles.keys() == ROLES.keys()
    assert roles['stem'] == {
        'backbone.conv1.weight',
        'backbone.bn1.weight',
        'backbone.bn1.bias',
    }
    assert roles['classifier'] == {'head.fc.weight', 'head.fc.bias'}
    expected = {
        'main_conv': {f'{block}.conv1.weight'},
        'main_norm': {f'{block}.bn1.{key}' for key in norm},
        'second_conv': {f'{block}.conv2.weight'},
        'second_norm': {f'{block}.bn2.{key}' for key in norm},
        'shortcut': {
            f'{block}.downsample.0.weight',
            *(f'{block}.downsample.1.{key}' for key in norm),
        },
    }
    for role, names in expected.items():
        assert {n for n in roles[role] if block in n} == names, role
    assert roles['norms'] == {
        f'{name}.{key}'
        for name, _ in student_norms(classifier)
        for key in norm
    }
    parts = [roles[role] for role in ROLES if role != 'norms']
    everything = {
        n for n, _ in classifier.named_parameters() if not is_branch_key(n)
    }
    assert set().union(*parts) == everything
    assert sum(map(len, parts)) == len(everything)


def test_roles_of_grafted_hosts():
    for host, stem in (
        (ResNet, 'conv1.weight'),
        (ResNetV1d, 'stem.0.conv.weight'),
    ):
        net = graft(
            host(depth=50, base_channels=4, stem_channels=8),
            [r'layer3\.\d\.conv2', r'layer4\.\d\.conv[23]'],
        )
        roles = parameters_by_role(net)
        assert stem in roles['stem']
        assert not [n for n in roles['stem'] if n.startswith('layer')]
        for block in ('layer3.0', 'layer3.5'):
            assert f'{block}.conv2.weight' in roles['main_conv']
            assert f'{block}.bn2.bias' in roles['main_norm']
            assert f'{block}.conv3.weight' in roles['second_conv']
            assert f'{block}.bn3.weight' in roles['second_norm']
        both = {'layer4.2.conv2.weight', 'layer4.2.conv3.weight'}
        assert both <= roles['main_conv']
        assert 'layer4.2.bn3.weight' in roles['main_norm']
        assert len(roles['main_conv']) == 6 + 2 * 3
        assert len(roles['second_conv']) == 6
        assert not roles['classifier']
    plain = parameters_by_role(nn.Sequential(nn.Conv2d(3, 4, 1)))
    assert not any(plain.values())


def test_a_role_that_nothing_plays_is_refused():
    net = ReduceNet(depth=8, base_channels=4)
    with pytest.raises(ValueError, match=r"'classifier' \(all of `head`, or"):
        match_parameters(net, ['stem', 'classifier'], 'model.reuse.freeze')
