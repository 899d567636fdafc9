# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Presets of distillation: their losses by hand, on all kinds of labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS

from reducenet_mm import set_scaler
from tests.test_models.by_hand import BY_HAND, outputs
from tests.test_models.distillation import batch, teacher_copy
from tests.test_models.presets import WITH_TEACHER, distiller, reuse

LABELS = torch.tensor([0, 1, 2, 3])


@pytest.fixture
def networks(classifier):
    """The teacher and the student at its start, as independent copies."""
    student = teacher_copy(classifier)
    set_scaler(student, 0.0)
    return teacher_copy(classifier), student


def run(networks, inputs):
    return [outputs(network, inputs) for network in networks]


@pytest.mark.parametrize('name', WITH_TEACHER)
def test_losses_equal_a_hand_computation(build, networks, name):
    inputs, samples = batch()
    expected = BY_HAND[name](*run(networks, inputs), LABELS)
    algorithm = build(distiller=distiller(name), norm_stats='inherited')
    losses = algorithm.train().loss(inputs, samples)
    assert losses.pop('student.loss') > 0
    assert losses.keys() == {f'distill.{loss}' for loss in expected}
    for loss, value in expected.items():
        torch.testing.assert_close(losses[f'distill.{loss}'], value)
        assert value > 1e-3
    log_vars = algorithm.parse_losses(losses)[0]
    torch.testing.assert_close(log_vars, sum(expected.values()))


def test_published_recipe_is_the_published_formula(
    classifier_cfg, classifier, networks
):
    cfg = classifier_cfg()
    cfg['head']['loss']['loss_weight'] = 0.3
    algorithm = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=cfg,
            distiller=distiller('soft_labels_published'),
            **{**reuse('published_head'), 'norm_stats': 'inherited'},
        )
    ).train()
    algorithm.load_teacher(classifier.state_dict())
    inputs, samples = batch()
    (teacher, _), (student, _) = run(networks, inputs)
    # As in the published main.py: nn.KLDivLoss() is a mean over elements.
    tau, alpha = 5.0, 0.7
    soft = torch.nn.KLDivLoss()(
        F.log_softmax(student / tau, 1), F.softmax(teacher / tau, 1)
    )
    hard = F.cross_entropy(student, LABELS)
    expected = alpha * tau * tau * soft + (1 - alpha) * hard
    loss, _ = algorithm.parse_losses(algorithm.loss(inputs, samples))
    torch.testing.assert_close(loss, expected)


# mixed and smoothed labels


def mixed(classifier_cfg, augments, name, loss=None):
    cfg = classifier_cfg()
    cfg['head']['loss'] = loss or dict(type='CrossEntropyLoss')
    if augments:
        cfg['train_cfg'] = dict(augments=[dict(type=augments, alpha=1.0)])
    return MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=cfg,
            distiller=distiller(name),
            norm_stats='inherited',
        )
    ).train()


@pytest.mark.parametrize('augments', ['Mixup', 'CutMix'])
@pytest.mark.parametrize('name', [n for n in WITH_TEACHER if n != 'dkd'])
def test_both_networks_see_the_same_mixed_batch(
    classifier_cfg, classifier, networks, augments, name
):
    algorithm = mixed(classifier_cfg, augments, name)
    algorithm.load_teacher(classifier.state_dict())
    inputs, samples = batch()
    data = dict(inputs=inputs.clone(), data_samples=samples)
    np.random.seed(1)
    torch.manual_seed(1)
    data = algorithm.data_preprocessor(data, training=True)
    scores = torch.stack([sample.gt_score for sample in data['data_samples']])
    assert not torch.equal(data['inputs'], inputs)
    assert (scores > 0).sum(1).tolist().count(2) >= 2
    losses = algorithm.loss(**data)
    teacher, student = run(networks, data['inputs'])
    for key, value in BY_HAND[name](teacher, student, LABELS).items():
        torch.testing.assert_close(losses[f'distill.{key}'], value)
    hard = -(scores * student[0].log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(losses['student.loss'], hard)


@pytest.mark.parametrize('name', WITH_TEACHER)
def test_label_smoothing_changes_the_labels_alone(
    classifier_cfg, classifier, networks, name
):
    smooth = dict(type='LabelSmoothLoss', label_smooth_val=0.2, num_classes=5)
    algorithm = mixed(classifier_cfg, None, name, loss=smooth)
    algorithm.load_teacher(classifier.state_dict())
    inputs, samples = batch()
    losses = algorithm.loss(inputs, samples)
    teacher, student = run(networks, inputs)
    for key, value in BY_HAND[name](teacher, student, LABELS).items():
        torch.testing.assert_close(losses[f'distill.{key}'], value)
    target = F.one_hot(LABELS, 5) * 0.8 + 0.2 / 5
    hard = -(target * student[0].log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(losses['student.loss'], hard)


def test_a_loss_on_one_class_per_image_is_refused(classifier_cfg):
    for augments in ('Mixup', 'CutMix'):
        with pytest.raises(ValueError, match=r'loss_dkd \(DKDLoss\) needs on'):
            mixed(classifier_cfg, augments, 'dkd')
    cfg = classifier_cfg()
    cfg['data_preprocessor']['to_onehot'] = True
    with pytest.raises(ValueError, match='or to_onehot makes them. Drop'):
        MODELS.build(
            dict(
                _scope_='mmrazor',
                type='SupernetDistill',
                architecture=cfg,
                distiller=distiller('dkd'),
            )
        )


def test_class_scores_of_the_data_set_are_named(classifier_cfg, classifier):
    soft = dict(type='CrossEntropyLoss', use_soft=True)
    inputs, samples = batch()
    for sample, label in zip(samples, LABELS, strict=True):
        sample.set_gt_score(F.one_hot(label, 5) * 0.9 + 0.02)
    for name in ('soft_labels', 'dkd'):
        algorithm = mixed(classifier_cfg, None, name, loss=soft)
        algorithm.load_teacher(classifier.state_dict())
        if name == 'soft_labels':
            assert algorithm.loss(inputs, samples)['distill.loss_kl'] > 0
            continue
        shape = r'loss_dkd \(DKDLoss\) needs one .* of shape \(4, 5\)'
        with pytest.raises(RuntimeError, match=f'{shape}.*gt_label'):
            algorithm.loss(inputs, samples)


def test_scores_that_the_teacher_records_are_named_too(classifier_cfg):
    """In place, where the teacher computes its loss, it has labels too."""
    cfg = distiller('dkd')
    labels = cfg['student_recorders'].pop('labels')
    cfg['teacher_recorders']['labels'] = labels
    mapping = cfg['loss_forward_mappings']['loss_dkd']['gt_labels']
    mapping['from_student'] = False
    architecture = classifier_cfg()
    architecture['head']['loss'] = dict(type='CrossEntropyLoss', use_soft=True)
    settings = dict(_scope_='mmrazor', type='InplaceDistill', distiller=cfg)
    algorithm = MODELS.build(dict(settings, architecture=architecture)).train()
    algorithm.set_position(seed=0, iteration=5, max_iters=10)
    inputs, samples = batch()
    for sample, label in zip(samples, LABELS, strict=True):
        sample.set_gt_score(F.one_hot(label, 5) * 0.9 + 0.02)
    with pytest.raises(
        RuntimeError, match=r'\(DKDLoss\) needs one .*gt_label'
    ):
        algorithm.loss(inputs, samples)


def test_losses_that_reach_nothing_are_refused(build):
    body = dict(reuse=dict(freeze=[r're:backbone\..+']))
    with pytest.raises(ValueError, match=r'layer3.* only the head trains'):
        build(distiller=distiller('features'), **body)
    for name in ('soft_labels', 'soft_labels_features'):
        assert build(distiller=distiller(name), **body).distiller


def test_gradients_come_from_the_distillation_too(build):
    for name in WITH_TEACHER:
        algorithm = build(distiller=distiller(name)).train()
        inputs, samples = batch()
        losses = algorithm.loss(inputs, samples)
        for key in sorted(set(losses) - {'student.loss'}):
            weight = algorithm.architecture.backbone.layer1[0].conv1.weight
            (grad,) = torch.autograd.grad(
                losses[key], weight, retain_graph=True
            )
            assert grad.abs().sum() > 0, (name, key)


def test_a_batch_of_one_image_gives_finite_losses(build):
    sample = [DataSample().set_gt_label(2)]
    inputs = batch()[0][:1]
    for name in WITH_TEACHER:
        algorithm = build(distiller=distiller(name)).train()
        for key, loss in algorithm.loss(inputs, sample).items():
            assert torch.isfinite(loss), (name, key)


def test_features_may_have_any_layout():
    """MMRazor's own L2Loss takes contiguous ones only."""
    loss = MODELS.build(dict(type='L2Loss', normalize=True))
    one, two = torch.rand(2, 3, 4, 5, 5)
    moved = one.to(memory_format=torch.channels_last)
    assert not moved.is_contiguous()
    assert torch.equal(loss(moved, two), loss(one, two))
    difference = one.flatten(1) / one.flatten(1).norm(dim=1, keepdim=True)
    difference -= two.flatten(1) / two.flatten(1).norm(dim=1, keepdim=True)
    torch.testing.assert_close(loss(one, two), (difference**2).sum() / 3)


def test_a_feature_of_zeros_is_as_far_as_any_other_is_long():
    loss = MODELS.build(dict(type='L2Loss', normalize=True))
    dead = torch.zeros(2, 4, requires_grad=True)
    value = loss(dead, torch.rand(2, 4))
    value.backward()
    assert value.item() == pytest.approx(1)
    assert torch.isfinite(dead.grad).all()
