# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Export of every block: what merges, what is left, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from torch import nn

from reducenet_mm import set_scaler
from reducenet_mm.export import export_student
from reducenet_mm.models.supernet import hosts
from tests.conftest import randomise_norms
from tests.test_models.distillation import batch, soft_labels, train


def build(model_cfg: dict[str, Any]) -> nn.Module:
    return randomise_norms(MODELS.build(model_cfg))


def save(path: Path, state: dict[str, Any]) -> Path:
    torch.save(dict(state_dict=state), path)
    return path


BLOCKS = {
    'parallel': dict(block='parallel'),
    'pair': dict(block='sequential'),
    'merged': dict(block='sequential', student_conv='merged'),
    'lora': dict(lora=dict(kind='kxk_1x1', inner_norm=True, outer_norm=True)),
}


@pytest.mark.parametrize(
    ('block', 'depth'),
    [*((block, 8) for block in BLOCKS), ('lora', 18), ('parallel', 18)],
)
def test_every_block_exports_to_a_plain_network(
    block: str, depth: int, classifier_cfg: Callable, tmp_path: Path
) -> None:
    model_cfg = classifier_cfg(depth=depth, **BLOCKS[block])
    model_cfg['head']['in_channels'] = 16 if depth == 8 else 32
    model = build(model_cfg)
    if block == 'merged':  # training would give the new conv a bias
        for _, host in hosts(model):
            nn.init.uniform_(host.bias)
    path = save(tmp_path / 'epoch_3.pth', model.state_dict())
    result = export_student(
        Config(dict(model=model_cfg)), path, tmp_path / 'out'
    )
    assert 0 <= result.largest_difference <= 1e-10
    assert (result.comparisons[1].largest > 0) == (block != 'parallel')
    written = Config.fromfile(result.config)
    stock = block == 'lora' and depth == 18
    cifar = 'StudentResNet_CIFAR' if depth == 8 else 'StudentResNet'
    assert written.model.backbone.type == ('ResNet' if stock else cifar)
    assert written.model.backbone.get('out_act', True) == (block == 'lora')

    saved = torch.load(result.weights, weights_only=True)['state_dict']
    written.model.data_preprocessor = None
    plain = MODELS.build(dict(written.model, _scope_='mmpretrain'))
    plain.load_state_dict(saved, strict=True)
    assert result.params == sum(p.numel() for p in plain.parameters())
    set_scaler(model, 0.0)
    images = torch.randn(4, 3, 12, 12)
    with torch.no_grad():
        wanted = model.double().eval()(images.double())
        answer = plain.double().eval()(images.double())
    torch.testing.assert_close(answer, wanted, rtol=1e-5, atol=1e-5)


TEACHERS = {'merged': 'pair', 'lora': None}
"""Block -> that of its teacher, where it is another: the stage adds to it."""


@pytest.mark.parametrize('block', BLOCKS)
def test_a_trained_student_of_every_block_exports_beside_its_teacher(
    block: str, classifier_cfg: Callable, tmp_path: Path
) -> None:
    known = TEACHERS.get(block, block)
    teacher = build(classifier_cfg(**BLOCKS.get(known, {})))
    model_cfg = dict(
        _scope_='mmrazor',
        type='SupernetDistill',
        architecture=classifier_cfg(**BLOCKS[block]),
        distiller=soft_labels(),
    )
    algorithm = MODELS.build(model_cfg)
    algorithm.init_weights()
    algorithm.load_teacher(teacher.state_dict())
    images, _ = batch()
    wanted = teacher.eval()(images)
    train(algorithm)
    assert torch.equal(algorithm.teacher(images), wanted)
    algorithm.eval()
    student = algorithm(images, mode='tensor')
    assert not torch.allclose(student, wanted)

    path = save(tmp_path / 'epoch_5.pth', algorithm.state_dict())
    result = export_student(
        Config(dict(model=model_cfg)), path, tmp_path / 'out'
    )
    written = Config.fromfile(result.config)
    written.model.data_preprocessor = None
    plain = MODELS.build(dict(written.model, _scope_='mmpretrain')).eval()
    saved = torch.load(result.weights, weights_only=True)['state_dict']
    plain.load_state_dict(saved, strict=True)
    torch.testing.assert_close(plain(images), student, rtol=1e-4, atol=1e-4)


def test_what_no_norm_can_absorb_is_refused(
    classifier_cfg: Callable, tmp_path: Path
) -> None:
    lora = dict(kind='1x1', norm_cfg=dict(type='BN'))
    norm_cfg = dict(type='GN', num_groups=2)
    model_cfg = classifier_cfg(lora=lora, norm_cfg=norm_cfg)
    model = build(model_cfg)
    path = save(tmp_path / 'epoch_1.pth', model.state_dict())
    with pytest.raises(ValueError, match='gn1.running_mean.*absorb'):
        export_student(Config(dict(model=model_cfg)), path, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
