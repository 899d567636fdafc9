# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Features are compared at the end of every stage, the fourth included."""

from __future__ import annotations

import copy

import pytest
import torch
from mmrazor.registry import MODELS

from reducenet_mm import set_scaler
from tests.conftest import randomise_norms
from tests.test_models.by_hand import BY_HAND, outputs
from tests.test_models.distillation import batch
from tests.test_models.presets import BASES, preset

NAMES = sorted(
    path.stem for path in (BASES / 'distill/four_stages').glob('*.py')
)
HEAD = dict(
    type='LinearClsHead',
    num_classes=5,
    in_channels=32,
    loss=dict(type='CrossEntropyLoss'),
)
BACKBONES = dict(
    reducenet18=dict(type='ReduceNet', depth=18, base_channels=4),
    grafted_resnet18=dict(
        type='GraftedBackbone',
        backbone=dict(
            type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4
        ),
        targets='block_first_conv',
        expansion=1,
        zero_init=False,
    ),
)


def classifier(backbone: str) -> dict:
    return dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=BACKBONES[backbone],
        neck=dict(type='GlobalAveragePooling'),
        head=HEAD,
    )


def test_each_preset_of_features_has_one_of_four_stages():
    assert NAMES == ['attention', 'features', 'soft_labels_features']


@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.parametrize('name', NAMES)
def test_losses_equal_a_hand_computation(name, backbone):
    torch.manual_seed(0)
    cfg = classifier(backbone)
    teacher = randomise_norms(MODELS.build(cfg)).eval()
    torch.nn.init.normal_(teacher.head.fc.weight)
    algorithm = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=cfg,
            norm_stats='inherited',
            distiller=preset('distill/four_stages', name)['distiller'],
        )
    )
    algorithm.load_teacher(teacher.state_dict())
    student = copy.deepcopy(teacher)
    set_scaler(student, 0.0)

    _, samples = batch()
    inputs = torch.randn(4, 3, 64, 64)  # 2x2 pixels at the end of stage 4
    labels = torch.tensor([0, 1, 2, 3])
    both = [outputs(net, inputs, stages=4) for net in (teacher, student)]
    expected = BY_HAND[name](*both, labels)
    assert expected.keys() >= {f'loss_stage{i}' for i in (1, 2, 3, 4)}

    losses = algorithm.train().loss(inputs, samples)
    assert losses.pop('student.loss') > 0
    assert losses.keys() == {f'distill.{loss}' for loss in expected}
    for loss, value in expected.items():
        torch.testing.assert_close(losses[f'distill.{loss}'], value)
        assert value > 1e-3


@pytest.mark.parametrize(
    ('folder', 'warned'), [('', True), ('four_stages', False)]
)
def test_a_preset_that_leaves_out_the_last_stage_is_warned_of(
    folder, warned, logged
):
    MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=classifier('reducenet18'),
            distiller=preset(f'distill/{folder}', 'features')['distiller'],
        )
    )
    found = [line for line in logged if 'not the last stage' in line]
    assert len(found) == warned
    assert all('`backbone.layer4`' in line for line in found)
