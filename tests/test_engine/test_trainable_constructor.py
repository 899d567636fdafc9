# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The optimizer constructor: what trains, at which rate."""

import inspect
import re

import pytest
from mmengine.optim import DefaultOptimWrapperConstructor, build_optim_wrapper
from mmrazor.registry import MODELS
from torch import nn

from reducenet_mm.engine.optimizers import TrainableOptimWrapperConstructor
from reducenet_mm.engine.optimizers.trainable import (
    PARAMWISE_KEY,
    check_paramwise_keys,
)
from reducenet_mm.models.roles import parameters_by_role


def net():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model[0].weight.requires_grad_(False)
    return model


def build(model, **paramwise):
    cfg = dict(
        constructor='TrainableOptimWrapperConstructor',
        optimizer=dict(type='SGD', lr=0.5, weight_decay=0.1),
    )
    if paramwise:
        cfg['paramwise_cfg'] = paramwise
    return build_optim_wrapper(model, cfg)


def test_frozen_parameters_are_left_out():
    model = net()
    groups = build(model).optimizer.param_groups
    held = [id(p) for group in groups for p in group['params']]
    trained = [id(p) for p in model.parameters() if p.requires_grad]
    assert held == trained


def test_paramwise_settings_are_kept():
    model = net()
    groups = build(
        model, norm_decay_mult=0.0, custom_keys={'0': dict(lr_mult=0.1)}
    ).optimizer.param_groups
    settings = {
        id(p): (g['lr'], g['weight_decay'])
        for g in groups
        for p in g['params']
    }
    assert settings == {
        id(model[0].bias): (0.05, 0.1),
        id(model[1].weight): (0.5, 0.0),
        id(model[1].bias): (0.5, 0.0),
    }


def test_nothing_to_train_is_refused():
    model = net().requires_grad_(False)
    for paramwise in ({}, dict(norm_decay_mult=0.0)):
        with pytest.raises(ValueError, match='no parameter of the model'):
            build(model, **paramwise)


def rates(model, **paramwise):
    groups = build(model, **paramwise).optimizer.param_groups
    by_id = {id(p): g['lr'] for g in groups for p in g['params']}
    names = {n: by_id.get(id(p)) for n, p in model.named_parameters()}
    return {name: lr for name, lr in names.items() if lr is not None}


def test_learning_rates_by_role(classifier):
    default = rates(classifier)
    roles = {'classifier': 0.1, r're:backbone\.layer2\.0\.conv1\.weight': 4}
    changed = {
        'head.fc.weight': 0.05,
        'head.fc.bias': 0.05,
        'backbone.layer2.0.conv1.weight': 2.0,
    }
    assert rates(classifier, roles=roles) == {**default, **changed}
    assert set(default.values()) == {0.5}
    # On top of MMEngine's own options.
    bias = {n for n in default if n == 'head.fc.bias'}
    both = rates(classifier, roles=roles, bias_lr_mult=3)
    assert {n for n in both if both[n] == pytest.approx(0.15)} == bias


def test_roles_are_those_of_the_architecture(classifier):
    algorithm = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=classifier,
            reuse=dict(freeze=['classifier', 'main_norm']),
        )
    )
    paramwise = dict(roles=dict(norms=0.5, stem=0.5, main_conv=1))
    learning = rates(algorithm, **paramwise)
    roles = parameters_by_role(classifier)
    slow = (roles['norms'] | roles['stem']) - roles['main_norm']
    assert {n for n, rate in learning.items() if rate == 0.25} == {
        f'architecture.{name}' for name in slow
    }
    assert paramwise == dict(roles=dict(norms=0.5, stem=0.5, main_conv=1))
    wrapped = nn.Module()
    wrapped.module = algorithm
    cfg = dict(optimizer=dict(type='SGD', lr=0.5))
    optim = TrainableOptimWrapperConstructor(cfg, paramwise)(wrapped)
    assert optim.get_lr()['lr'].count(0.25) == len(slow)


@pytest.mark.parametrize(
    ('roles', 'error', 'message'),
    [
        (dict(body=1.0), ValueError, r"unknown roles \['body'\]"),
        ({'re:conv1': 1.0}, ValueError, 'roles: no parameter'),
        (dict(classifier=0), ValueError, r'classifier must be .* got 0'),
        (dict(classifier='1'), ValueError, "got '1'"),
        ([('classifier', 1)], TypeError, 'must be a dict'),
        (dict(norms=0.1, stem=0.2), ValueError, "'stem' and another role"),
        (dict(shortcut=0.1), ValueError, 'shortcut=0.1, but .* is frozen'),
    ],
)
def test_bad_roles_are_refused(classifier, roles, error, message):
    for name, param in classifier.named_parameters():
        param.requires_grad_('downsample' not in name)
    with pytest.raises(error, match=message):
        build(classifier, roles=roles)


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('role', "Did you mean 'roles'"),
        ('norm_decay', "Did you mean 'norm_decay_mult'"),
        ('layer_decay_rate', 'needs that one in optim_wrapper.constructor'),
    ],
)
def test_keys_without_effect_are_refused(classifier, name, hint):
    with pytest.raises(ValueError) as error:
        build(classifier, **{name: 0.5, 'bias_lr_mult': 2.0})
    assert f'unknown key {PARAMWISE_KEY}.{name}=0.5. ' in str(error.value)
    assert hint in str(error.value)


def test_the_known_keys_are_those_that_mmengine_reads():
    read = set(
        re.findall(
            r"paramwise_cfg\.get\('(\w+)'",
            inspect.getsource(DefaultOptimWrapperConstructor),
        )
    )
    assert len(read) > 5
    check_paramwise_keys({**dict.fromkeys(read), 'roles': {}})
    for name in read:
        with pytest.raises(ValueError, match=f"Did you mean '{name}'"):
            check_paramwise_keys({f'{name}s': None})


def test_a_subclass_may_read_keys_of_its_own(classifier):
    class Own(TrainableOptimWrapperConstructor):
        pass

    cfg = dict(optimizer=dict(type='SGD', lr=0.5))
    optim = Own(cfg, dict(own=1, roles=dict(classifier=0.1)))(classifier)
    assert optim.get_lr()['lr'].count(0.05) == 2


def test_roles_need_a_learning_rate(classifier):
    cfg = dict(
        constructor='TrainableOptimWrapperConstructor',
        optimizer=dict(type='Adadelta'),
        paramwise_cfg=dict(roles=dict(stem=0.1)),
    )
    with pytest.raises(ValueError, match='needs optim_wrapper.optimizer.lr'):
        build_optim_wrapper(classifier, cfg)


def test_a_parameter_with_two_names_has_its_rate_once(classifier):
    """As the heads of detectors, which share convolutions."""
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    classifier.head.add_module('first', first)
    classifier.head.add_module('second', second)
    found = rates(
        classifier,
        roles={r're:head\.second\..+': 0.1},
        bypass_duplicate=True,  # MMEngine wants to be told
    )
    assert found['head.first.weight'] == 0.05  # the same as second's
    assert found['head.second.bias'] == 0.05
    assert found['head.first.bias'] == 0.5
