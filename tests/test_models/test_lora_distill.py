# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The lora stage with every preset of distillation: losses, what moves."""

from __future__ import annotations

import copy

import pytest
import torch
from mmrazor.registry import MODELS
from torch import nn

from reducenet_mm import set_scaler
from reducenet_mm.models.supernet import is_lora_key
from tests.conftest import randomise_norms
from tests.test_models.by_hand import BY_HAND, outputs
from tests.test_models.distillation import batch, optimizer, teacher_copy
from tests.test_models.presets import WITH_TEACHER, distiller, reuse

LABELS = torch.tensor([0, 1, 2, 3])
LORAS = {
    'kxk_1x1': dict(kind='kxk_1x1', expansion=2, inner_norm=True),
    '1x1': dict(kind='1x1'),
    'weight': dict(kind='weight', expansion=0.5),
}


@pytest.fixture
def stage(classifier_cfg):
    """The algorithm, and teacher and student as independent copies."""

    def build(block, lora, name):
        teacher = MODELS.build(classifier_cfg(block=block))
        randomise_norms(teacher)
        nn.init.normal_(teacher.head.fc.weight)
        algorithm = MODELS.build(
            dict(
                _scope_='mmrazor',
                type='SupernetDistill',
                architecture=classifier_cfg(block=block, lora=LORAS[lora]),
                distiller=distiller(name),
                **reuse('lora'),
            )
        )
        algorithm.init_weights()
        algorithm.load_teacher(teacher.state_dict())
        student = teacher_copy(teacher)
        set_scaler(student, 0.0)
        return algorithm.train(), teacher_copy(teacher), student

    return build


def assert_by_hand(name, losses, teacher, student):
    """Return the losses of the distillation, which are those by hand."""
    inputs, _ = batch()
    by_hand = BY_HAND[name](
        outputs(teacher, inputs), outputs(student, inputs), LABELS
    )
    soft = {k: v for k, v in losses.items() if k != 'student.loss'}
    assert soft.keys() == {f'distill.{loss}' for loss in by_hand}
    for loss, value in by_hand.items():
        torch.testing.assert_close(soft[f'distill.{loss}'], value)
        assert value > 1e-3
    return soft


def reached(network, loss):
    """The hosts whose lora gets a gradient from a loss."""
    loras = {n: p for n, p in network.named_parameters() if is_lora_key(n)}
    grads = torch.autograd.grad(
        loss, list(loras.values()), retain_graph=True, allow_unused=True
    )
    return {
        name.partition('.lora.')[0]
        for name, grad in zip(loras, grads, strict=True)
        if grad is not None and grad.any()
    }


@pytest.mark.parametrize('lora', LORAS)
@pytest.mark.parametrize('block', ['postsum', 'parallel'])
@pytest.mark.parametrize('name', WITH_TEACHER)
def test_only_lora_learns_what_the_preset_says(stage, name, block, lora):
    algorithm, teacher, student = stage(block, lora, name)
    network = algorithm.architecture
    before = copy.deepcopy(algorithm.state_dict())
    optim = optimizer(algorithm)
    inputs, samples = batch()

    losses = algorithm.loss(inputs, samples)
    soft = assert_by_hand(name, losses, teacher, student)
    assert reached(network, sum(soft.values())) == {
        f'backbone.layer{i}.0.conv1' for i in (1, 2, 3)
    }
    optim.update_params(algorithm.parse_losses(losses)[0])

    # The second step's student has a lora, its teacher has not.
    trained = copy.deepcopy(network)
    losses = algorithm.loss(inputs, samples)
    again = assert_by_hand(name, losses, teacher, trained)
    assert abs(sum(again.values()) - sum(soft.values())) > 1e-4
    optim.update_params(algorithm.parse_losses(losses)[0])

    changed = {
        key
        for key, value in algorithm.state_dict().items()
        if not torch.equal(value, before[key])
    }
    lora_keys = {
        f'architecture.{key}'
        for key in network.state_dict()
        if is_lora_key(key)
    }
    assert changed == lora_keys
