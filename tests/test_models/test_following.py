# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Recorders, when a hook replaces the module that they record."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmpretrain.engine.hooks import SwitchRecipeHook
from mmpretrain.models.necks import GlobalAveragePooling
from torch import nn

from tests.test_models.distillation import batch, soft_labels

ALGORITHMS = pytest.mark.parametrize('kind', ['build', 'inplace'])
SMOOTH = dict(
    type='LabelSmoothLoss',
    label_smooth_val=0.1,
    num_classes=5,
    mode='original',
    _scope_='mmpretrain',
)


@pytest.fixture
def decoupled(request: pytest.FixtureRequest) -> Callable[[str], nn.Module]:
    """Build an algorithm with DKD, which records the loss's arguments."""
    preset = Config.fromfile('configs/_base_/distill/dkd.py')

    def build(kind: str) -> nn.Module:
        distiller = copy.deepcopy(preset.distiller)
        return request.getfixturevalue(kind)(distiller=distiller).train()

    return build


def switch_loss(algorithm: nn.Module, epoch: int = 1) -> None:
    """Let MMPretrain's hook replace the head's loss."""
    hook = SwitchRecipeHook([dict(action_epoch=2, loss=SMOOTH)])
    logger = MMLogger.get_current_instance()
    hook.before_train_epoch(
        SimpleNamespace(epoch=epoch, model=algorithm, logger=logger)
    )


@ALGORITHMS
def test_labels_are_recorded_after_the_loss_is_switched(decoupled, kind):
    algorithm = decoupled(kind)
    before = algorithm.loss(*batch())
    former = algorithm.head.loss_module
    switch_loss(algorithm)
    assert algorithm.head.loss_module is not former
    after = algorithm.loss(*batch())
    # Both of the same weights and batch: only the student's loss is another.
    torch.testing.assert_close(
        after['distill.loss_dkd'], before['distill.loss_dkd']
    )
    assert not torch.isclose(after['student.loss'], before['student.loss'])


@ALGORITHMS
def test_they_follow_in_a_copy_too(decoupled, kind):
    """Such as that of an average of the weights."""
    algorithm = decoupled(kind)
    switch_loss(algorithm)
    expected = algorithm.loss(*batch())['distill.loss_dkd']
    twin = copy.deepcopy(algorithm)
    switch_loss(twin)
    torch.testing.assert_close(
        twin.loss(*batch())['distill.loss_dkd'], expected
    )
    torch.testing.assert_close(
        algorithm.loss(*batch())['distill.loss_dkd'], expected
    )


class Swapped(nn.Module):
    """A loss around another, which it gives the labels of other images."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, scores, labels, **settings):
        return self.inner(scores, labels.flip(0), **settings)


@ALGORITHMS
def test_a_former_module_that_is_still_executed_is_not_recorded(
    decoupled, kind
):
    """Else its record would come first: it ends before the one around it."""
    algorithm = decoupled(kind)
    expected = algorithm.loss(*batch())['distill.loss_dkd']
    former = algorithm.head.loss_module
    algorithm.head.loss_module = Swapped(former)
    found = algorithm.loss(*batch())['distill.loss_dkd']
    torch.testing.assert_close(found, expected)
    assert not former._forward_hooks


def test_a_module_that_stays_is_hooked_once(decoupled):
    algorithm = decoupled('build')
    for _ in range(3):
        algorithm.loss(*batch())
    hooks = algorithm.head.loss_module._forward_hooks
    assert len(hooks) == 1
    assert len(algorithm.head.fc._forward_hooks) == 2  # student and teacher


@ALGORITHMS
def test_outputs_of_both_networks_are_followed(request, kind):
    """Of the teacher's recorder, too."""
    distiller = soft_labels()
    for side in ('student', 'teacher'):
        distiller[f'{side}_recorders']['logits']['source'] = 'neck'
    for record in distiller['loss_forward_mappings']['loss_kl'].values():
        record['data_idx'] = 0
    algorithm = request.getfixturevalue(kind)(distiller=distiller).train()
    expected = algorithm.loss(*batch())['distill.loss_kl']
    algorithm.architecture.neck = GlobalAveragePooling()
    found = algorithm.loss(*batch())['distill.loss_kl']
    torch.testing.assert_close(found, expected)


@ALGORITHMS
def test_a_source_that_is_gone_is_named(request, kind):
    distiller = soft_labels()
    distiller['student_recorders']['inner'] = dict(
        type='ModuleOutputs', source='head.loss_module.cross'
    )
    build = request.getfixturevalue(kind)
    with pytest.raises(ValueError, match='head.loss_module.cross'):
        build(distiller=copy.deepcopy(distiller))
    distiller['student_recorders']['inner']['source'] = 'head.loss_module'
    algorithm = build(distiller=distiller).train()
    del algorithm.head.loss_module
    with pytest.raises(RuntimeError) as error:
        algorithm.loss(*batch())
    message = str(error.value)
    assert "student_recorders.inner.source='head.loss_module' was" in message
    assert 'StopDistillHook' in message


def test_compiled_steps_add_no_hook(build):
    """Else each record would be there several times, the first ones twice."""
    algorithm = build().train()
    module = algorithm.architecture.head.fc
    expected = algorithm.loss(*batch())
    count = len(module._forward_hooks)
    step = torch.compile(algorithm.loss, backend='eager')
    for _ in range(2):
        losses = step(*batch())
    assert len(module._forward_hooks) == count > 0
    torch.testing.assert_close(losses, expected)
