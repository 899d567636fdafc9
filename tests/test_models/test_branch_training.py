# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Branches that train while they fade out (``train_branches``)."""

from __future__ import annotations

import copy

import pytest
import torch

from reducenet_mm.models.checkpoint_views import split_state_dict
from reducenet_mm.models.supernet import (
    is_branch_key,
    set_gates,
    student_gates,
    student_norms,
)
from tests.test_models.distillation import (
    assert_teacher_is,
    batch,
    optimizer,
    teacher_copy,
    train,
)

STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')


@pytest.fixture
def annealing(build):
    """An algorithm on its way, at scaler 0.5, as the hook leaves it."""

    def _build(value=0.5, **settings):
        algorithm = build(**{'train_branches': True, **settings})
        algorithm.annealed = True
        set_gates(student_gates(algorithm.architecture, 'expand'), value)
        return algorithm

    return _build


def branches(names):
    return {name for name in names if is_branch_key(name)}


def values(algorithm):
    return copy.deepcopy(algorithm.architecture.state_dict())


def changed(algorithm, before):
    after = algorithm.architecture.state_dict()
    return {k for k in after if not torch.equal(after[k], before[k])}


@pytest.mark.parametrize('norm_stats', ['live', 'inherited'])
def test_the_branch_trains_and_the_teacher_stays(
    annealing, classifier, norm_stats
):
    algorithm = annealing(norm_stats=norm_stats)
    before, reference = values(algorithm), teacher_copy(classifier)
    train(algorithm, steps=3)
    expected = branches(name for name, _ in classifier.named_parameters())
    if norm_stats == 'live':
        expected |= branches(
            name for name in before if name.split('.')[-1] in STATISTICS
        )
    assert branches(changed(algorithm, before)) == expected
    assert_teacher_is(algorithm, reference)
    teacher, _ = split_state_dict(algorithm.state_dict())
    for key, value in classifier.state_dict().items():
        assert torch.equal(teacher[key], value), key
    overlay = algorithm.teacher_overlay.tensors()
    assert branches(overlay) == expected


def test_by_default_the_branch_is_the_teachers(annealing, classifier):
    algorithm = annealing(train_branches=False)
    before, reference = values(algorithm), teacher_copy(classifier)
    inputs, samples = batch()
    losses = algorithm.train().loss(inputs, samples)
    assert set(losses) == {'student.loss', 'distill.loss_kl'}
    train(algorithm, steps=3)
    moved = changed(algorithm, before)
    assert moved
    assert not branches(moved)
    assert not branches(algorithm.teacher_overlay.tensors())
    assert_teacher_is(algorithm, reference)
    gates = student_gates(algorithm.architecture, 'expand').values()
    assert [gate.scaler for gate in gates] == [0.5] * 3


def test_the_student_at_a_gate_is_computed_by_hand(annealing, classifier):
    """Not only its loss: the branch's share reaches the weights before it."""
    algorithm = annealing(train_branches=False, norm_stats='inherited').train()
    network = teacher_copy(classifier)
    for host in student_gates(network, 'expand').values():
        host.expand.norm2.weight.data *= 0.5  # of half the branch's weight
        host.expand.norm2.bias.data *= 0.5
    inputs, samples = batch()
    loss = algorithm.loss(inputs, samples)['student.loss']
    expected = network(inputs, samples, mode='loss')['loss']
    torch.testing.assert_close(loss, expected)
    algorithm.zero_grad()
    loss.backward()
    network.zero_grad()
    expected.backward()
    torch.testing.assert_close(
        algorithm.architecture.backbone.conv1.weight.grad,
        network.backbone.conv1.weight.grad,
    )


def test_an_idle_branch_has_a_zero_gradient(annealing):
    """So that processes which train together need not look for it."""
    algorithm = annealing(value=0.0)
    for host in student_gates(algorithm.architecture, 'expand').values():
        host.expand.register_forward_hook(
            lambda *_: torch.is_grad_enabled() and pytest.fail('computed')
        )
    losses, log = algorithm.parse_losses(algorithm.train().loss(*batch()))
    assert log['student.loss_idle_branches'] == 0
    losses.backward()
    for name, param in algorithm.architecture.named_parameters():
        assert param.grad is not None, name
        assert bool(param.grad.any()) != is_branch_key(name), name


def test_the_optimizer_holds_the_branches(annealing):
    algorithm = annealing(reuse=dict(freeze=['classifier']))
    held = {
        id(p) for g in optimizer(algorithm).param_groups for p in g['params']
    }
    params = dict(algorithm.architecture.named_parameters())
    names = {name for name, param in params.items() if id(param) in held}
    assert names == {n for n in params if not n.startswith('head.')}
    assert len(held) == len(names)


def test_frozen_stages_keep_their_branches(annealing):
    algorithm = annealing(backbone=dict(frozen_stages=1))
    before = values(algorithm)
    train(algorithm, steps=1)
    moved = branches(changed(algorithm, before))
    assert {name.split('.')[1] for name in moved} == {'layer2', 'layer3'}
    assert branches(algorithm.teacher_overlay.tensors()) == moved


def test_kept_statistics_are_kept_in_branches_too(annealing):
    algorithm = annealing(norm_stats='inherited').train()
    norms = [m for m in algorithm.modules() if hasattr(m, 'running_mean')]
    assert len(norms) > len(list(student_norms(algorithm.architecture)))
    assert not [norm for norm in norms if norm.training]


def test_without_a_schedule_nothing_would_train_them(build):
    algorithm = build(train_branches=True).train()
    with pytest.raises(RuntimeError, match='add .*ScalerScheduleHook'):
        algorithm.loss(*batch())


@pytest.mark.parametrize(
    'backbone', [dict(block='sequential'), dict(frozen_stages=3)]
)
def test_no_branch_to_train_is_refused(build, backbone):
    with pytest.raises(ValueError, match='no branch could train'):
        build(load=False, backbone=backbone, train_branches=True)
