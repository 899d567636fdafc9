# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""InplaceDistill: losses, gradients and statistics of a step."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from reducenet_mm import set_scaler
from reducenet_mm.models.supernet import is_branch_key, student_norms
from tests.test_models.distillation import TAU, WEIGHT, batch, soft_labels
from tests.test_models.inplace import BLOCKS, at, separate

LABELS = torch.arange(4) % 5
EXACT = dict(rtol=0, atol=1e-12)


def kl(teacher, student):
    """The soft labels' loss; no gradient goes to the teacher."""
    p = (teacher.detach() / TAU).softmax(1)
    log_q = (student / TAU).log_softmax(1)
    return (p * (p.log() - log_q)).sum() / len(p) * TAU**2 * WEIGHT


def statistics(model, norms):
    return {
        f'{name}.{key}': value
        for name in norms
        for key, value in model.get_submodule(name).named_buffers()
    }


# losses and gradients


@pytest.mark.parametrize('block', BLOCKS)
def test_a_step_is_that_of_two_networks_with_shared_weights(inplace, block):
    """Losses, gradients and statistics, against two separate networks."""
    algorithm = inplace(dict(block=block), teacher_weight=0.5).double()
    algorithm = at(algorithm, 0).train()
    teacher, student = separate(algorithm)
    inputs, samples = batch()
    losses = algorithm.loss(inputs.double(), samples)
    t_logits, s_logits = teacher(inputs.double()), student(inputs.double())
    by_hand = {
        'teacher.loss': 0.5 * F.cross_entropy(t_logits, LABELS),
        'student.loss': F.cross_entropy(s_logits, LABELS),
        'distill.loss_kl': kl(t_logits, s_logits),
    }
    assert set(losses) == set(by_hand)
    for name, value in by_hand.items():
        torch.testing.assert_close(losses[name], value, **EXACT)
        assert value > 1e-3
    assert abs(losses['teacher.loss'] * 2 - losses['student.loss']) > 1e-3

    sum(losses.values()).backward()
    sum(by_hand.values()).backward()
    theirs = dict(student.named_parameters())
    for name, param in teacher.named_parameters():
        parts = [g for g in (param.grad, theirs[name].grad) if g is not None]
        assert len(parts) == (1 if is_branch_key(name) else 2)
        own = algorithm.architecture.get_parameter(name).grad
        torch.testing.assert_close(own, sum(parts), **EXACT)

    norms = [name for name, _ in student_norms(student)]
    own = algorithm.teacher_overlay.tensors()
    torch.testing.assert_close(own, statistics(teacher, norms), **EXACT)
    torch.testing.assert_close(
        statistics(algorithm.architecture, norms),
        statistics(student, norms),
        **EXACT,
    )
    branch_norms = [
        name
        for name, module in teacher.named_modules()
        if isinstance(module, _BatchNorm) and is_branch_key(name)
    ]
    assert bool(branch_norms) == (block != 'sequential')
    torch.testing.assert_close(
        statistics(algorithm.architecture, branch_norms),
        statistics(teacher, branch_norms),
        **EXACT,
    )


def test_nothing_reaches_the_teacher_from_the_soft_labels(inplace):
    """Not even by a loss of MMRazor's which does not detach by itself."""
    distiller = soft_labels()
    recorded = dict(ends=dict(type='ModuleOutputs', source='backbone.layer3'))
    distiller.update(
        student_recorders=recorded,
        teacher_recorders=copy.deepcopy(recorded),
        distill_losses=dict(loss_l2=dict(type='L2Loss')),
        loss_forward_mappings=dict(
            loss_l2=dict(
                s_feature=dict(recorder='ends', from_student=True),
                t_feature=dict(recorder='ends', from_student=False),
            )
        ),
    )
    algorithm = inplace(distiller=distiller).train()
    loss = algorithm.loss(*batch())['distill.loss_l2']
    assert loss > 1e-3
    loss.backward()
    branches = [
        param.grad
        for name, param in algorithm.architecture.named_parameters()
        if is_branch_key(name)
    ]
    assert branches
    assert branches == [None] * len(branches)
    assert algorithm.architecture.backbone.conv1.weight.grad.any()


def test_netaug_is_the_students_loss_and_alpha_times_the_teachers(inplace):
    algorithm = inplace(distiller=None, teacher_weight=0.3).train()
    teacher, student = separate(algorithm)
    inputs, samples = batch()
    losses = algorithm.loss(inputs, samples)
    assert set(losses) == {'teacher.loss', 'student.loss'}
    total, _ = algorithm.parse_losses(losses)
    own = F.cross_entropy(student(inputs), LABELS)
    augmented = F.cross_entropy(teacher(inputs), LABELS)
    torch.testing.assert_close(total, own + 0.3 * augmented)
    assert abs(own - augmented) > 1e-3


def test_features_are_the_students(inplace):
    algorithm = inplace().eval()
    images = batch()[0]
    (feature,) = algorithm.extract_feat(images)
    set_scaler(algorithm.architecture, 1.0)
    (of_the_teacher,) = algorithm.architecture.extract_feat(images)
    set_scaler(algorithm.architecture, 0.0)
    (wanted,) = algorithm.architecture.extract_feat(images)
    assert torch.equal(feature, wanted)
    assert not torch.allclose(feature, of_the_teacher)


def test_stopped_distillation_leaves_the_labels(inplace):
    algorithm = inplace().train()
    algorithm.distillation_stopped = True
    assert set(algorithm.loss(*batch())) == {'teacher.loss', 'student.loss'}


# ramp and sandwich: functions of seed and iteration


@pytest.mark.parametrize(
    ('iteration', 'weight'), [(0, 0.05), (9, 0.5), (19, 1.0), (20, 1), (99, 1)]
)
def test_the_ramp_scales_the_soft_labels_alone(inplace, iteration, weight):
    full = inplace().train().loss(*batch())
    ramped = at(inplace(ramp=0.2), iteration).train().loss(*batch())
    expected = dict(full)
    expected['distill.loss_kl'] = full['distill.loss_kl'] * weight
    torch.testing.assert_close(ramped, expected)


def test_sandwich_networks_learn_as_the_student_does(inplace):
    algorithm = at(inplace(sandwich=2, ramp=1.0), 24).train()
    plain = at(inplace(ramp=1.0), 24).train()
    teacher, _ = separate(algorithm)
    inputs, samples = batch()
    losses, without = (a.loss(inputs, samples) for a in (algorithm, plain))
    scalers = algorithm.sandwich_scalers()
    assert 0 < min(scalers) < max(scalers) <= 1
    expected = dict(without)
    t_logits = teacher(inputs)
    for i, scaler in enumerate(scalers):
        set_scaler(teacher, scaler)
        logits = teacher(inputs)
        expected[f'sandwich_{i}.loss'] = F.cross_entropy(logits, LABELS)
        soft = 0.25 * kl(t_logits, logits)
        expected[f'distill.sandwich_{i}.loss_kl'] = soft
    torch.testing.assert_close(losses, expected)
    # Their batches' statistics are nobody's.
    torch.testing.assert_close(
        algorithm.state_dict(), plain.state_dict(), rtol=0, atol=0
    )


def test_scalers_are_drawn_by_seed_and_iteration(inplace):
    algorithm, other = inplace(sandwich=3), inplace(sandwich=3)

    def draw(model, iteration, seed):
        torch.rand(1)  # no matter what else is drawn
        return tuple(at(model, iteration, seed).sandwich_scalers())

    drawn = {draw(algorithm, i, seed) for i in range(50) for seed in (0, 1)}
    assert len(drawn) == 100
    values = [value for scalers in drawn for value in scalers]
    assert all(0 < value <= 1 for value in values)
    assert sum(values) / len(values) == pytest.approx(0.5, abs=0.06)
    assert draw(other, 7, 1) == draw(algorithm, 7, 1)


@pytest.mark.parametrize('settings', [dict(ramp=0.1), dict(sandwich=1)])
def test_what_needs_the_iteration_asks_for_its_hook(inplace, settings):
    algorithm = inplace(**settings).train()
    with pytest.raises(RuntimeError, match=r"add dict\(type='InplaceHook'\)"):
        algorithm.loss(*batch())
