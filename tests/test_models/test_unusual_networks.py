# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Legitimate networks unlike the usual ones: other norms, losses, starts."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.model import PretrainedInit
from mmpretrain.registry import MODELS as NETWORKS
from mmrazor.registry import MODELS
from torch import nn

from reducenet_mm.engine.hooks.supernet_switch_hook import recalibrate
from reducenet_mm.models import ReduceNet
from reducenet_mm.models.checkpoint_views import split_state_dict
from reducenet_mm.models.supernet import set_gates, student_gates
from tests.conftest import randomise_norms
from tests.test_models.distillation import (
    assert_teacher_is,
    batch,
    soft_labels,
    teacher_copy,
    train,
)

INSTANCE_NORM = dict(type='IN', affine=True, track_running_stats=True)


def test_norms_that_predicting_does_not_execute_keep_their_statistics(
    classifier_cfg,
):
    """As those of an auxiliary head, which only training executes."""
    network = NETWORKS.build(classifier_cfg())
    network.auxiliary_head = nn.BatchNorm2d(3)
    randomise_norms(network)
    algorithm = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=network,
            norm_stats='recalibrated',
        )
    )
    algorithm.load_teacher(copy.deepcopy(network.state_dict()))
    assert 'auxiliary_head' in algorithm.moving_norms
    before = copy.deepcopy(network.auxiliary_head.state_dict())
    stem = network.backbone.bn1.running_mean.clone()
    images = [torch.randint(0, 255, (3, 8, 8)).byte() for _ in range(4)]
    recalibrate(algorithm, [dict(inputs=images, data_samples=None)], 1)
    assert not torch.equal(network.backbone.bn1.running_mean, stem)
    after = network.auxiliary_head.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert network.auxiliary_head.momentum == 0.1
    assert not network.auxiliary_head.training


@pytest.mark.parametrize('norm_stats', ['live', 'inherited'])
def test_the_teacher_stays_while_other_statistics_move(
    classifier_cfg, norm_stats
):
    classifier = NETWORKS.build(classifier_cfg(norm_cfg=INSTANCE_NORM))
    nn.init.normal_(classifier.head.fc.weight)
    for module in classifier.modules():
        if isinstance(module, nn.InstanceNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
    reference = teacher_copy(classifier)
    algorithm = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=classifier_cfg(norm_cfg=INSTANCE_NORM),
            distiller=soft_labels(),
            norm_stats=norm_stats,
        )
    )
    algorithm.load_teacher(classifier.state_dict())
    stem = algorithm.architecture.backbone.norm1
    before = stem.running_mean.clone()
    train(algorithm)
    assert not torch.equal(stem.running_mean, before)
    assert_teacher_is(algorithm, reference)


def test_a_codebook_of_each_network_is_its_own(inplace, classifier_cfg):
    network = NETWORKS.build(classifier_cfg())
    network.register_buffer('codebook', torch.ones(2))
    algorithm = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='InplaceDistill',
            architecture=network,
            distiller=soft_labels(),
        )
    )
    assert 'codebook' in algorithm.teacher_overlay.tensors()
    assert 'codebook' not in inplace().teacher_overlay.tensors()


def test_losses_may_be_lists(inplace, monkeypatch):
    """Detectors have one for each level of their features."""
    whole = inplace(teacher_weight=0.5).train().loss(*batch())
    algorithm = inplace(teacher_weight=0.5).train()
    head = algorithm.architecture.head
    own = type(head).loss

    def in_parts(*args, **options):
        loss = own(head, *args, **options)['loss']
        return dict(loss=[loss / 4, loss * 3 / 4])

    monkeypatch.setattr(head, 'loss', in_parts)
    parts = algorithm.loss(*batch())
    for name in ('teacher.loss', 'student.loss'):
        assert len(parts[name]) == 2
        torch.testing.assert_close(sum(parts[name]), whole[name])
    total, _ = algorithm.parse_losses(parts)
    torch.testing.assert_close(total, sum(whole.values()))


@pytest.mark.parametrize('kind', ['Pretrained', PretrainedInit])
@pytest.mark.parametrize('as_list', [False, True])
def test_branches_of_a_file_are_kept(tmp_path, kind, as_list):
    trained = randomise_norms(ReduceNet(8, base_channels=4))
    path = tmp_path / 'supernet.pth'
    torch.save(dict(state_dict=trained.state_dict()), path)
    init_cfg = dict(type=kind, checkpoint=str(path))
    net = ReduceNet(
        8,
        base_channels=4,
        zero_init_residual=False,
        init_cfg=[init_cfg] if as_list else init_cfg,
    )
    net.init_weights()
    net.init_weights()  # changes nothing, as in MMEngine
    wanted = trained.state_dict()
    for key, value in net.state_dict().items():
        assert torch.equal(value, wanted[key]), key


def test_the_teacher_stays_while_statistics_of_branches_move(classifier_cfg):
    """Of instance norms, in branches that train while they fade."""
    config = classifier_cfg(norm_cfg=INSTANCE_NORM)
    classifier = NETWORKS.build(config)
    reference = teacher_copy(classifier)
    algorithm = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=config,
            distiller=soft_labels(),
            train_branches=True,
        )
    )
    algorithm.load_teacher(classifier.state_dict())
    algorithm.annealed = True
    host = algorithm.architecture.backbone.layer1[0].conv1
    set_gates(student_gates(algorithm.architecture, 'expand'), 0.5)
    before = host.expand.norm1.running_mean.clone()
    train(algorithm)
    assert not torch.equal(host.expand.norm1.running_mean, before)
    assert_teacher_is(algorithm, reference)


def test_a_norm_with_two_names_has_the_teachers_statistics_under_both(
    classifier_cfg,
):
    network = NETWORKS.build(classifier_cfg())
    norm = network.backbone.layer3[0].bn1
    network.backbone.again = norm
    algorithm = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='InplaceDistill',
            architecture=network,
            distiller=soft_labels(),
        )
    )
    train(algorithm)
    teacher, student = split_state_dict(algorithm.state_dict())
    one = 'backbone.layer3.0.bn1.running_mean'
    other = 'backbone.again.running_mean'
    assert torch.equal(teacher[one], teacher[other])
    assert torch.equal(student[one], norm.running_mean)
    assert not torch.equal(teacher[one], student[one])
