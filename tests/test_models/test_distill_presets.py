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
    """Return logits and stage outputs of both."""
    outputs = []
    for network in networks:
        network.backbone.out_indices = (0, 1, 2)
        with torch.no_grad():
            outputs.append((network(inputs), network.backbone(inputs)))
    return outputs


# what is minimised, by hand


def kl(teacher, student, tau):
    """Per image, ``(N,)``."""
    soft = (teacher / tau).softmax(1)
    return (soft * (soft.log() - (student / tau).log_softmax(1))).sum(1)


def by_hand_soft_labels(teacher, student):
    return dict(loss_kl=16 * kl(teacher[0], student[0], 4).mean())


def by_hand_soft_labels_published(teacher, student):
    # On these 5 classes the mean over elements is a fifth of that per image.
    return dict(loss_kl=0.7 * 25 * kl(teacher[0], student[0], 5).mean() / 5)


def by_hand_dist(teacher, student):
    p, q = teacher[0].softmax(1), student[0].softmax(1)

    def unlike(rows, others):
        total = 0.0
        for a, b in zip(
            rows - rows.mean(1, True), others - others.mean(1, True)
        ):
            total += 1 - a @ b / (a.norm() * b.norm() + 1e-8)
        return total / len(rows)

    return dict(loss_dist=2.0 * (unlike(p, q) + unlike(p.T, q.T)))


def by_hand_dkd(teacher, student):
    total = 0.0
    for t, s, label in zip(teacher[0], student[0], LABELS, strict=True):
        p, q = (t / 4).softmax(0), (s / 4).softmax(0)
        binary = torch.stack([p[label], 1 - p[label]])
        other = torch.stack([q[label], 1 - q[label]])
        total += (binary * (binary / other).log()).sum()
        rest = torch.arange(5) != label
        p, q = p[rest] / p[rest].sum(), q[rest] / q[rest].sum()
        total += (p * (p / q).log()).sum()
    return dict(loss_dkd=16 * total / len(LABELS))


def by_hand_features(teacher, student):
    losses = {}
    for i, (t, s) in enumerate(zip(teacher[1], student[1], strict=True), 1):
        t, s = F.normalize(t.flatten(1)), F.normalize(s.flatten(1))
        losses[f'loss_stage{i}'] = (t - s).square().sum(1).mean()
    return losses


def by_hand_attention(teacher, student):
    losses = {}
    for i, (t, s) in enumerate(zip(teacher[1], student[1], strict=True), 1):
        t = F.normalize(t.square().sum(1).flatten(1))
        s = F.normalize(s.square().sum(1).flatten(1))
        losses[f'loss_stage{i}'] = 1000 * (t - s).square().mean()
    return losses


def by_hand_soft_labels_features(teacher, student):
    return {
        **by_hand_soft_labels(teacher, student),
        **by_hand_features(teacher, student),
    }


@pytest.mark.parametrize('name', WITH_TEACHER)
def test_losses_equal_a_hand_computation(build, networks, name):
    inputs, samples = batch()
    expected = globals()[f'by_hand_{name}'](*run(networks, inputs))
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
    for key, value in globals()[f'by_hand_{name}'](teacher, student).items():
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
    for key, value in globals()[f'by_hand_{name}'](teacher, student).items():
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
