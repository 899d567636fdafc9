# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The teacher of a network that has one layer under several names."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from mmrazor.registry import MODELS as ALGORITHMS
from torch import Tensor, nn

from reducenet_mm.models.algorithms.weight_reuse import WeightReuse
from reducenet_mm.models.checkpoint_views import split_state_dict
from tests.conftest import randomise_norms
from tests.test_models.distillation import optimizer

from .grafts import grafted_cfg


class TwoLevels(BaseModel):
    """A head for two levels with a shared convolution and a tied one."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MODELS.build(
            grafted_cfg('ResNet', backbone=dict(out_indices=(2, 3)))
        )
        shared = nn.Conv2d(8, 4, 1)
        self.scale = nn.ModuleList([nn.Conv2d(32, 8, 1), nn.Conv2d(64, 8, 1)])
        self.bbox_head = nn.ModuleList([shared, shared])
        self.tied = nn.Conv2d(8, 4, 1)
        self.tied.weight = shared.weight

    def forward(self, inputs: Tensor, data_samples=None, mode='tensor'):
        levels = zip(
            self.backbone(inputs), self.scale, self.bbox_head, strict=True
        )
        outputs = [head(scale(f)) for f, scale, head in levels]
        outputs.append(self.tied(self.scale[1](self.backbone(inputs)[1])))
        if mode == 'tensor':
            return tuple(outputs)
        return dict(loss_levels=[output.square().mean() for output in outputs])


@pytest.mark.parametrize('student_init', [False, True])
def test_a_shared_layer_trains_and_the_teacher_keeps_its_own(
    student_init, tmp_path
):
    teacher = randomise_norms(TwoLevels()).eval()
    path = str(tmp_path / 'teacher.pth')
    torch.save(dict(state_dict=teacher.state_dict()), path)
    outputs = {
        key: dict(type='ModuleOutputs', source='tied') for key in ('tied',)
    }
    algorithm = ALGORITHMS.build(
        dict(
            type='SupernetDistill',
            architecture=TwoLevels(),
            teacher_ckpt=path,
            student_init=path if student_init else None,
            distiller=dict(
                type='ConfigurableDistiller',
                student_recorders=outputs,
                teacher_recorders=copy.deepcopy(outputs),
                distill_losses=dict(loss_l2=dict(type='L2Loss')),
                loss_forward_mappings=dict(
                    loss_l2=dict(
                        s_feature=dict(recorder='tied', from_student=True),
                        t_feature=dict(recorder='tied', from_student=False),
                    )
                ),
            ),
        )
    )
    algorithm.init_weights()
    student = algorithm.architecture.train()
    shared = student.bbox_head[0].weight
    optim = optimizer(algorithm)
    images = torch.randn(2, 3, 32, 32)
    for _ in range(2):
        losses, _ = algorithm.parse_losses(algorithm.loss(images))
        optim.update_params(losses)
    assert student.bbox_head[0].weight is shared
    assert student.tied.weight is shared
    assert not torch.equal(shared, teacher.bbox_head[0].weight)
    with torch.no_grad():
        expected = teacher(images)
    assert all(map(torch.equal, algorithm.teacher(images), expected))

    again = TwoLevels()
    state, _ = split_state_dict(algorithm.state_dict())
    again.load_state_dict(state)
    with torch.no_grad():
        assert all(map(torch.equal, again.eval()(images), expected))


@pytest.mark.parametrize('name', ['bbox_head.0', 'bbox_head.1', 'tied'])
def test_a_shared_parameter_is_frozen_and_inherited_by_any_name(name):
    network = TwoLevels()
    pattern = rf're:{re.escape(name)}\.weight'
    WeightReuse(freeze=[pattern]).apply_(network)
    assert not network.tied.weight.requires_grad
    assert network.tied.bias.requires_grad

    fresh = WeightReuse(inherit=[pattern]).apply_(TwoLevels())
    assert 'scale.0.weight' in fresh and 'tied.bias' in fresh
    shared = {'bbox_head.0.weight', 'bbox_head.1.weight', 'tied.weight'}
    assert not shared & set(fresh)
