# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""InplaceDistill with every preset of distillation, by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reducenet_mm.models.supernet import is_branch_key
from tests.test_models.by_hand import BY_HAND, outputs
from tests.test_models.distillation import batch
from tests.test_models.inplace import BLOCKS, separate
from tests.test_models.presets import DISTILL, distiller

LABELS = torch.tensor([0, 1, 2, 3])


def parameters(algorithm):
    """Those of the branches, which are the teacher's alone, and others."""
    both = {True: {}, False: {}}
    for name, param in algorithm.architecture.named_parameters():
        both[is_branch_key(name)][name] = param
    return both[True], both[False]


@pytest.mark.parametrize('block', BLOCKS)
@pytest.mark.parametrize('name', DISTILL)
def test_losses_are_those_of_two_networks(inplace, block, name):
    algorithm = inplace(
        dict(block=block), distiller=distiller(name), teacher_weight=0.5
    ).train()
    inputs, samples = batch()
    teacher, student = (outputs(net, inputs) for net in separate(algorithm))
    by_hand = {
        'teacher.loss': 0.5 * F.cross_entropy(teacher[0], LABELS),
        'student.loss': F.cross_entropy(student[0], LABELS),
    }
    for loss, value in BY_HAND[name](teacher, student, LABELS).items():
        by_hand[f'distill.{loss}'] = value
    losses = algorithm.loss(inputs, samples)
    assert losses.keys() == by_hand.keys()
    for loss, value in by_hand.items():
        torch.testing.assert_close(losses[loss], value)
        assert value > 1e-3


@pytest.mark.parametrize('block', ['postsum', 'parallel'])
@pytest.mark.parametrize('name', DISTILL)
def test_both_networks_learn_and_the_teacher_is_a_constant(
    inplace, block, name
):
    algorithm = inplace(dict(block=block), distiller=distiller(name)).train()
    losses = algorithm.loss(*batch())
    branches, shared = parameters(algorithm)
    reached = {}
    for loss, value in losses.items():
        grads = torch.autograd.grad(
            value,
            [*branches.values(), *shared.values()],
            retain_graph=True,
            allow_unused=True,
        )
        got = zip([*branches, *shared], grads, strict=True)
        reached[loss] = {n for n, g in got if g is not None and g.any()}
    assert reached.pop('teacher.loss') == {*branches, *shared}
    assert reached.pop('student.loss') == set(shared)
    body = {name for name in shared if name.startswith('backbone.layer')}
    if name == 'none':
        assert not reached
    else:
        together = set.union(*reached.values())
        assert body <= together <= set(shared)
