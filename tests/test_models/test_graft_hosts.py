# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Grafts on MMPretrain's backbones: identity, distillation, the way back."""

from __future__ import annotations

import copy

import pytest
import torch
from mmpretrain.registry import MODELS as BACKBONES
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from torch import nn

from reducenet_mm import graft, set_scaler, ungraft
from reducenet_mm.models.supernet import hosts, is_branch_key, student_norms
from tests.conftest import randomise_norms
from tests.test_models.distillation import optimizer, soft_labels
from tests.test_models.grafts import (
    HOSTS,
    classifier_around,
    grafted_cfg,
    stock_backbone,
)


@pytest.fixture(scope='module', params=list(HOSTS))
def host(request):
    """Name and stock backbone, not to be changed."""
    return request.param, stock_backbone(request.param)


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32)


def features(net, images):
    """The last feature map."""
    with torch.no_grad():
        return net(images)[-1]


def graph(net, images):
    """What is computed, operation for operation."""
    exported = torch.export.export(net, (images,), strict=False)
    return [
        (node.op, str(node.target), str(node.args), str(node.kwargs))
        for node in exported.graph.nodes
    ]


def test_a_graft_is_the_identity_and_keeps_the_keys(host, images):
    name, stock = host
    net = graft(copy.deepcopy(stock), HOSTS[name][1], expansion=2)
    assert len(list(hosts(net))) == HOSTS[name][2]
    assert [k for k in net.state_dict() if not is_branch_key(k)] == list(
        stock.state_dict()
    )
    before = features(stock, images)
    assert torch.equal(features(net, images), before)
    for _, layer in hosts(net):
        nn.init.ones_(layer.expand.norm2.weight)
    assert not torch.allclose(features(net, images), before)


def test_it_still_is_after_init_weights(host, images, tmp_path):
    name, stock = host
    path = str(tmp_path / 'stock.pth')
    torch.save(dict(state_dict=stock.state_dict()), path)
    channels = features(stock, images).shape[1]
    pretrained = dict(init_cfg=dict(type='Pretrained', checkpoint=path))
    for settings in ({}, pretrained):
        model = classifier_around(
            grafted_cfg(name, backbone=settings), channels
        )
        model.init_weights()
        net = model.backbone
        assert type(net) is type(stock)
        net.eval()
        teacher = features(net, images)
        set_scaler(net, 0.0)
        assert torch.equal(teacher, features(net, images))
        if settings:
            assert torch.equal(teacher, features(stock, images))
        for _, layer in hosts(net):
            assert not layer.expand.norm2.weight.any()
            assert not layer.expand.norm2.bias.any()
            assert layer.expand.conv1.weight.any()


def test_a_step_of_distillation_trains_the_student_alone(host, images):
    name, stock = host
    channels = features(stock, images).shape[1]
    model = randomise_norms(classifier_around(grafted_cfg(name), channels))
    teacher = copy.deepcopy(model).eval()
    algorithm = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=model,
            distiller=soft_labels(),
        )
    )
    algorithm.load_teacher(teacher.state_dict())
    before = copy.deepcopy(model.state_dict())
    optim = optimizer(algorithm)
    samples = [DataSample().set_gt_label(label) for label in (1, 3)]
    algorithm.train()
    losses, _ = algorithm.parse_losses(algorithm.loss(images, samples))
    optim.update_params(losses)
    after = model.state_dict()
    changed = {k for k in after if not torch.equal(after[k], before[k])}
    student = {n for n, _ in model.named_parameters() if not is_branch_key(n)}
    statistics = {
        key
        for norm_name, norm in student_norms(model)
        for key, _ in norm.named_buffers(norm_name)
    }
    assert changed == student | statistics
    with torch.no_grad():
        expected = teacher(images, mode='tensor')
        student_answer = algorithm(images, mode='tensor')
    assert torch.equal(algorithm.teacher(images), expected)
    assert not torch.allclose(student_answer, expected)


def test_ungraft_gives_the_stock_network_back(host, images):
    name, stock = host
    net = graft(copy.deepcopy(stock), HOSTS[name][1], expansion=2)
    randomise_norms(net)
    teacher = features(net, images)
    set_scaler(net, 0.0)
    student = features(net, images)
    assert not torch.allclose(student, teacher)
    plain = ungraft(net)
    assert not list(hosts(plain))
    fresh = BACKBONES.build(dict(type=name, **copy.deepcopy(HOSTS[name][0])))
    assert list(plain.state_dict()) == list(fresh.state_dict())
    fresh.load_state_dict(plain.state_dict(), strict=True)
    fresh.eval()
    assert torch.equal(features(fresh, images), student)


def test_the_exported_graph_is_the_stock_networks(host, images):
    name, stock = host
    net = graft(copy.deepcopy(stock), HOSTS[name][1])
    expected = graph(stock, images)
    plain = graph(ungraft(net), images)
    assert len(expected) > 20
    assert plain == expected


def test_a_graph_with_branches_is_another(images):
    stock = stock_backbone('ResNet')
    net = graft(copy.deepcopy(stock), 'block_first_conv')
    assert len(graph(net, images)) > len(graph(stock, images))
