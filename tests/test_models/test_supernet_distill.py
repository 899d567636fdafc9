# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""SupernetDistill: one supernet, two networks; what trains and what not."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage
from mmrazor.models.algorithms import BaseAlgorithm
from mmrazor.registry import MODELS

from reducenet_mm import set_scaler
from reducenet_mm.models.checkpoint_views import split_state_dict
from reducenet_mm.models.supernet import hosts, is_branch_key, student_norms
from tests.test_models.distillation import (
    TAU,
    WEIGHT,
    assert_teacher_is,
    batch,
    optimizer,
    teacher_copy,
    train,
)

# what it is


def test_it_is_a_mmrazor_algorithm(build):
    algorithm = build()
    assert isinstance(algorithm, BaseAlgorithm)
    assert [h.scaler for _, h in hosts(algorithm.architecture)] == [0.0] * 3
    assert not [
        m
        for m in algorithm.architecture.modules()
        if getattr(m, 'inplace', False)
    ]


def test_a_preprocessor_config_goes_to_the_architecture(classifier_cfg):
    cfg = classifier_cfg()
    inner = cfg.pop('data_preprocessor')
    outer = dict(num_classes=5, mean=[1.0] * 3, std=[2.0] * 3)
    for given, mean in (
        (cfg, 1.0),
        ({**cfg, 'data_preprocessor': inner}, 0.0),
    ):
        algorithm = MODELS.build(
            dict(
                _scope_='mmrazor',
                type='SupernetDistill',
                architecture=given,
                data_preprocessor=outer,
            )
        )
        preprocessor = algorithm.data_preprocessor
        assert preprocessor is algorithm.architecture.data_preprocessor
        assert preprocessor.mean.flatten().tolist() == [mean] * 3
    assert 'data_preprocessor' not in cfg
    assert 'type' not in outer


def test_losses_equal_a_hand_computation(build, classifier):
    algorithm = build(norm_stats='inherited').train()
    inputs, samples = batch()
    labels = torch.tensor([0, 1, 2, 3])
    losses = algorithm.loss(inputs, samples)
    with torch.no_grad():
        teacher = teacher_copy(classifier)(inputs)
        student_net = teacher_copy(classifier)
        set_scaler(student_net, 0.0)
        student = student_net(inputs)
    p, log_q = (teacher / TAU).softmax(1), (student / TAU).log_softmax(1)
    by_hand = (p * (p.log() - log_q)).sum() / len(labels) * TAU**2 * WEIGHT
    assert set(losses) == {'student.loss', 'distill.loss_kl'}
    torch.testing.assert_close(losses['distill.loss_kl'], by_hand)
    torch.testing.assert_close(
        losses['student.loss'], F.cross_entropy(student, labels)
    )
    assert by_hand > 1e-3


def test_live_statistics_use_the_batch(build, classifier):
    algorithm = build(norm_stats='live').train()
    inputs, samples = batch()
    student = copy.deepcopy(classifier).train()
    set_scaler(student, 0.0)
    torch.testing.assert_close(
        algorithm.loss(inputs, samples)['student.loss'],
        student(inputs, samples, mode='loss')['loss'],
    )


def test_without_a_distiller_no_teacher_is_computed(build):
    algorithm = build(distiller=None)
    for _, host in hosts(algorithm.architecture):
        host.expand.register_forward_hook(lambda *_: pytest.fail('computed'))
    train(algorithm)
    assert set(algorithm.loss(*batch())) == {'student.loss'}
    assert not [k for k in algorithm.state_dict() if 'overlay' in k]
    with pytest.raises(RuntimeError, match='no teacher'):
        algorithm.teacher(batch()[0])


def test_stopped_distillation_leaves_the_labels(build):
    algorithm = build()
    algorithm.distillation_stopped = True
    assert set(algorithm.loss(*batch())) == {'student.loss'}


def test_the_teachers_own_loss_is_not_computed(build):
    algorithm = build()
    calls = []
    head = algorithm.architecture.head
    compute = head.loss_module.forward
    head.loss_module.forward = lambda *a, **k: (
        calls.append(1) or compute(*a, **k)
    )
    algorithm.loss(*batch())
    assert len(calls) == 1


# I1: two networks in one file


@pytest.mark.parametrize('freeze', [[], ['classifier']])
@pytest.mark.parametrize('norm_stats', ['inherited', 'recalibrated', 'live'])
def test_the_overlay_is_exactly_what_may_change(build, norm_stats, freeze):
    algorithm = build(norm_stats=norm_stats, reuse=dict(freeze=freeze))
    architecture = algorithm.architecture
    expected = {
        name
        for name, _ in architecture.named_parameters()
        if not is_branch_key(name)
        and not (freeze and name.startswith('head.'))
    }
    if norm_stats != 'inherited':
        for norm, module in student_norms(architecture):
            expected |= {f'{norm}.{n}' for n, _ in module.named_buffers()}
    keys = set(algorithm.state_dict())
    overlay = {k for k in keys if k.startswith('teacher_overlay.')}
    assert overlay == {f'teacher_overlay.{name}' for name in expected}
    assert keys - overlay == {
        f'architecture.{k}' for k in architecture.state_dict()
    }


@pytest.mark.parametrize('norm_stats', ['live', 'recalibrated'])
def test_frozen_stages_stay_out_of_the_overlay(build, norm_stats):
    algorithm = build(backbone=dict(frozen_stages=1), norm_stats=norm_stats)
    names = algorithm.teacher_overlay.tensors()
    assert names
    assert not [n for n in names if 'layer1' in n or 'backbone.conv1' in n]


def test_both_networks_come_back_from_the_file_alone(build, classifier):
    algorithm = build()
    train(algorithm)
    teacher, student = split_state_dict(algorithm.state_dict())
    original = classifier.state_dict()
    assert set(teacher) == set(original)
    assert all(torch.equal(teacher[k], original[k]) for k in original)
    assert set(student) == {k for k in original if not is_branch_key(k)}
    trained = algorithm.architecture.state_dict()
    assert all(torch.equal(student[k], trained[k]) for k in student)
    assert not torch.equal(
        student['head.fc.weight'], original['head.fc.weight']
    )


def test_one_instance_holds_frozen_tensors_once(build):
    algorithm = build(
        norm_stats='inherited', reuse=dict(freeze=['classifier'])
    )
    state = algorithm.state_dict()
    assert 'teacher_overlay.head.fc.weight' not in state
    stored = [t.data_ptr() for t in state.values() if t.numel()]
    assert len(stored) == len(set(stored))


# I2, I3: the teacher's function is fixed


@pytest.mark.parametrize('norm_stats', ['inherited', 'recalibrated', 'live'])
@pytest.mark.parametrize('freeze', [[], ['classifier']])
def test_only_what_should_train_changes(build, classifier, norm_stats, freeze):
    algorithm = build(norm_stats=norm_stats, reuse=dict(freeze=freeze))
    reference = teacher_copy(classifier)
    before = copy.deepcopy(algorithm.state_dict())
    train(algorithm, steps=3)
    after = algorithm.state_dict()
    changed = {k for k in after if not torch.equal(after[k], before[k])}
    expected = {
        f'architecture.{name}'
        for name, _ in classifier.named_parameters()
        if not is_branch_key(name)
        and not (freeze and name.startswith('head.'))
    }
    if norm_stats == 'live':
        for norm, module in student_norms(classifier):
            expected |= {
                f'architecture.{norm}.{n}' for n, _ in module.named_buffers()
            }
    assert changed == expected
    assert_teacher_is(algorithm, reference)


def test_the_teacher_is_fixed_through_validation_and_modes(build, classifier):
    algorithm = build()
    reference = teacher_copy(classifier)
    inputs, samples = batch()
    optim = train(algorithm)
    algorithm.eval()
    algorithm(inputs, samples, mode='predict')
    assert_teacher_is(algorithm, reference)
    train(algorithm, optim=optim)
    assert_teacher_is(algorithm, reference)
    algorithm.teacher(inputs)
    assert [h.scaler for _, h in hosts(algorithm.architecture)] == [0.0] * 3


def test_the_teacher_call_leaves_no_trace(build):
    algorithm = build().train()
    state = copy.deepcopy(algorithm.state_dict())
    modes = {n: m.training for n, m in algorithm.named_modules()}
    output = algorithm.teacher(batch()[0])
    assert not output.requires_grad
    assert {n: m.training for n, m in algorithm.named_modules()} == modes
    for key, value in algorithm.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_a_failing_teacher_call_restores_everything(build):
    algorithm = build().train()
    modes = {n: m.training for n, m in algorithm.named_modules()}
    weight = algorithm.architecture.head.fc.weight
    with pytest.raises(RuntimeError):
        algorithm.teacher(torch.randn(1, 7, 8, 8))
    assert {n: m.training for n, m in algorithm.named_modules()} == modes
    assert [h.scaler for _, h in hosts(algorithm.architecture)] == [0.0] * 3
    assert algorithm.architecture.head.fc.weight is weight


def test_dropout_and_drop_path_are_off_in_the_teacher(build, classifier):
    algorithm = build()
    algorithm.architecture.neck = torch.nn.Sequential(
        algorithm.architecture.neck
    )
    dropout = torch.nn.Dropout(0.5)
    algorithm.architecture.head.fc.register_forward_pre_hook(
        lambda _, args: (dropout(args[0]),)
    )
    algorithm.architecture.head.add_module('dropout', dropout)
    algorithm.train()
    inputs, _ = batch()
    assert torch.equal(algorithm.teacher(inputs), algorithm.teacher(inputs))
    assert dropout.training


def test_the_teacher_survives_saving_and_loading(build, classifier, tmp_path):
    first = build()
    train(first)
    torch.save(first.state_dict(), tmp_path / 'distill.pth')
    second = build(load=False)
    second.load_state_dict(
        torch.load(tmp_path / 'distill.pth', weights_only=True)
    )
    reference = teacher_copy(classifier)
    assert_teacher_is(second, reference)
    train(second)
    assert_teacher_is(second, reference)


def test_the_teacher_survives_an_ema_swap(build, classifier):
    algorithm = build()
    ema = ExponentialMovingAverage(algorithm, momentum=0.3)
    optim = optimizer(algorithm)
    for _ in range(3):
        train(algorithm, steps=1, optim=optim)
        ema.update_parameters(algorithm)
    reference = teacher_copy(classifier)
    assert_teacher_is(ema.module, reference)
    for own, averaged in zip(algorithm.parameters(), ema.module.parameters()):
        swapped = averaged.data.clone()
        averaged.data.copy_(own.data)
        own.data.copy_(swapped)
    assert_teacher_is(algorithm, reference)
    assert_teacher_is(ema.module, reference)


def test_the_teacher_follows_a_change_of_dtype(build, classifier):
    algorithm = build().double()
    inputs, _ = batch()
    expected = teacher_copy(classifier).double()(inputs.double())
    assert torch.equal(algorithm.teacher(inputs.double()), expected)


def test_the_algorithm_can_be_copied_after_a_step(build):
    algorithm = build()
    train(algorithm, steps=1)
    twin = copy.deepcopy(algorithm)
    inputs, samples = batch()
    ours, theirs = algorithm.loss(inputs, samples), twin.loss(inputs, samples)
    for name, value in ours.items():
        assert torch.equal(value, theirs[name])


def test_the_optimizer_holds_exactly_what_trains(build):
    algorithm = build(reuse=dict(freeze=['classifier']))
    optim = optimizer(algorithm)
    held = [p for g in optim.param_groups for p in g['params']]
    names = {
        n for n, p in algorithm.named_parameters() if any(p is q for q in held)
    }
    assert len(held) == len(names)
    assert names == {
        n for n, p in algorithm.named_parameters() if p.requires_grad
    }
    assert not [n for n in names if 'expand' in n or 'head' in n]
