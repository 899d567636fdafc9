# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which network a config and a checkpoint stand for."""

from __future__ import annotations

import copy

import pytest
import torch
from mmpretrain.registry import MODELS

from reducenet_mm import set_scaler
from reducenet_mm.engine.network_choice import choose_network, plain_weights


def test_a_plain_config_gets_its_scaler(classifier_cfg):
    cfg = classifier_cfg()
    before = copy.deepcopy(cfg)
    assert choose_network(cfg, 0)['backbone']['scaler'] == 0
    assert choose_network(cfg, 0.25)['backbone']['scaler'] == 0.25
    assert cfg == before


def test_a_distillation_config_gets_its_view():
    cfg = dict(architecture=dict(backbone=dict()))
    assert choose_network(cfg, 1) == {**cfg, 'predict_view': 'teacher'}
    assert choose_network(cfg, 0) == {**cfg, 'predict_view': 'student'}
    with pytest.raises(ValueError, match=r'--scaler 0\.5'):
        choose_network(cfg, 0.5)


def test_a_scaler_needs_something_to_switch():
    with pytest.raises(ValueError, match='nothing to switch'):
        choose_network(dict(type='Other'), 1)
    plain = dict(backbone=dict(type='PlainResNet', depth=8))
    with pytest.raises(ValueError, match="'PlainResNet' has no branches"):
        choose_network(plain, 1)
    unknown = dict(backbone=dict(type='Unknown'))  # which the checks tell
    assert choose_network(unknown, 1)['backbone']['scaler'] == 1
    with pytest.raises(ValueError, match=r'in \[0, 1\]'):
        choose_network(dict(backbone=dict()), 2)


@pytest.fixture
def distillation(classifier) -> dict[str, torch.Tensor]:
    """A distillation's state dict: the overlay holds another classifier."""
    state = {
        f'architecture.{key}': value
        for key, value in classifier.state_dict().items()
    }
    weight = state['architecture.head.fc.weight']
    return {**state, 'teacher_overlay.head.fc.weight': weight + 1}


def test_both_networks_come_out_of_a_distillation(
    classifier, classifier_cfg, distillation
):
    student = classifier.state_dict()
    teacher = dict(student)
    teacher['head.fc.weight'] = teacher['head.fc.weight'] + 1
    set_scaler(classifier, 1.0)
    taken = plain_weights(classifier, distillation)
    torch.testing.assert_close(taken, teacher, rtol=0, atol=0)
    set_scaler(classifier, 0.0)
    taken = plain_weights(classifier, distillation)
    torch.testing.assert_close(taken, dict(student), rtol=0, atol=0)
    cfg = classifier_cfg(type='PlainResNet')
    del cfg['backbone']['expansion']
    plain = MODELS.build(cfg)
    plain.load_state_dict(plain_weights(plain, distillation))
    assert torch.equal(plain.head.fc.weight, student['head.fc.weight'])


def test_what_a_distillation_has_not_got_is_refused(classifier, distillation):
    set_scaler(classifier, 0.5)
    with pytest.raises(ValueError, match=r'scaler=0\.5'):
        plain_weights(classifier, distillation)
    set_scaler(classifier, 1.0)
    without_overlay = {
        key: value
        for key, value in distillation.items()
        if not key.startswith('teacher_overlay.')
    }
    with pytest.raises(ValueError, match='keeps no teacher beside'):
        plain_weights(classifier, without_overlay)


def test_lora_is_no_part_of_the_teacher_and_has_to_merge(
    classifier, distillation
):
    lora = 'architecture.backbone.layer1.0.conv1.lora.up'
    state = {**distillation, lora: torch.ones(4, 4)}
    set_scaler(classifier, 1.0)
    taken = plain_weights(classifier, state)
    assert taken.keys() == classifier.state_dict().keys()
    set_scaler(classifier, 0.0)
    with pytest.raises(ValueError, match=r'\*\.lora\.\*.*tools/export\.py'):
        plain_weights(classifier, state)


def test_a_plain_checkpoint_is_taken_as_it_is(classifier):
    assert plain_weights(classifier, classifier.state_dict()) is None
