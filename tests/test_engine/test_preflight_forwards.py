# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What MMEngine's keys for single modules would spoil is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.model.efficient_conv_bn_eval import (
    turn_on_efficient_conv_bn_eval,
)
from mmengine.runner.activation_checkpointing import (
    turn_on_activation_checkpointing,
)
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS as ALGORITHMS
from torch import nn

from reducenet_mm import set_scaler
from reducenet_mm.engine import preflight
from tests.test_engine.conftest import Make, Refuse
from tests.test_models.presets import distiller

STEM = ('backbone.conv1', 'backbone.bn1')
STAGE = (*STEM, 'backbone.layer1')
CONVNEXT = dict(
    type='ConvNeXt',
    arch=dict(depths=[1, 1], channels=[8, 16]),
    out_indices=(1,),
    gap_before_final_norm=False,
)
"""Registers all that comes between its stages before the first of them."""

PATCHES = ('backbone.downsample_layers.0',)


def without_gradient(model: nn.Module, names: list[str]) -> list[str]:
    """Compute gradients; return the modules that train but have none."""
    images = torch.randn(4, 3, 64, 64)
    samples = [DataSample().set_gt_label(label) for label in range(4)]
    model.train()(images, samples, mode='loss')['loss'].backward()
    return [
        name
        for name in names
        for param in model.get_submodule(name).parameters()
        if param.requires_grad and param.grad is None
    ]


@pytest.mark.parametrize(
    ('backbone', 'frozen', 'recomputed', 'lost'),
    [
        ({}, (), ['backbone.layer1', 'backbone.layer2'], None),
        ({}, (), ['backbone'], 'backbone'),
        ({}, STEM, ['backbone.layer1'], 'backbone.layer1'),
        ({}, STEM, ['backbone.layer3', 'backbone.layer1'], 'backbone.layer1'),
        ({}, STEM, ['backbone.layer2'], None),
        ({}, STEM[:1], ['backbone.layer1'], None),
        ({}, STAGE, ['backbone.layer1'], None),
        ({}, STAGE, ['backbone.layer2'], 'backbone.layer2'),
        (CONVNEXT, PATCHES, ['backbone.stages.0'], 'backbone.stages.0'),
        (CONVNEXT, PATCHES, ['backbone.downsample_layers.1'], None),
    ],
)
def test_what_would_get_no_gradient_is_refused(
    classifier_cfg: Callable[..., dict],
    backbone: dict,
    frozen: tuple[str, ...],
    recomputed: list[str],
    lost: str | None,
):
    model_cfg = classifier_cfg()
    model_cfg['backbone'] = backbone or model_cfg['backbone']
    model = MODELS.build(model_cfg)
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    cfg = Config(dict(activation_checkpointing=recomputed))
    if lost is None:
        preflight.check_forwards(cfg, model)
    else:
        with pytest.raises(ValueError, match=f': {lost!r} would not train'):
            preflight.check_forwards(cfg, model)
    turn_on_activation_checkpointing(model, recomputed)
    starved = without_gradient(model, recomputed)
    assert (lost in starved) if lost else not starved


def test_tensors_in_a_tuple_do_not_count(classifier: nn.Module):
    cfg = Config(dict(activation_checkpointing='head'))
    with pytest.raises(ValueError, match="'head' would not train"):
        preflight.check_forwards(cfg, classifier)
    turn_on_activation_checkpointing(classifier, 'head')
    with pytest.raises(RuntimeError, match='does not require grad'):
        without_gradient(classifier, ['head'])


def test_with_cp_copes_with_a_frozen_stem(
    classifier_cfg: Callable[..., dict],
):
    model = MODELS.build(classifier_cfg(with_cp=True, frozen_stages=0))
    assert not without_gradient(model, ['backbone.layer1', 'backbone.layer2'])


def test_nothing_is_changed_by_looking(classifier: nn.Module):
    classifier.train().backbone.layer1.eval()
    modes = [module.training for module in classifier.modules()]
    before = copy.deepcopy(classifier.state_dict())
    cfg = Config(dict(activation_checkpointing='backbone.layer1'))
    preflight.check_forwards(cfg, classifier)
    assert [module.training for module in classifier.modules()] == modes
    torch.testing.assert_close(classifier.state_dict(), before, rtol=0, atol=0)
    assert not classifier.backbone.layer1._forward_pre_hooks


@pytest.mark.parametrize('view', ['student', 'teacher'])
def test_whoever_answers_it_is_the_student_that_trains(
    classifier_cfg: Callable[..., dict], view: str
):
    algorithm = ALGORITHMS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=classifier_cfg(),
            distiller=distiller('soft_labels'),
            reuse=dict(freeze=['stem']),
            predict_view=view,
        )
    )
    name = 'architecture.backbone.layer1'
    cfg = Config(dict(activation_checkpointing=name))
    with pytest.raises(ValueError, match=f"'{name}' would not train"):
        preflight.check_forwards(cfg, algorithm)


def test_what_cannot_take_the_image_is_passed_over(classifier: nn.Module):
    classifier.backbone.conv1 = nn.Linear(3, 4)
    cfg = Config(dict(activation_checkpointing=['backbone.layer1']))
    preflight.check_forwards(cfg, classifier)


@pytest.mark.parametrize('names', ['backbone', ['backbone']])
def test_traced_gates_would_not_move(
    classifier_cfg: Callable[..., dict], names: Any
):
    cfg = Config(dict(efficient_conv_bn_eval=names))
    model = MODELS.build(classifier_cfg(block='sequential')).eval()
    with pytest.raises(ValueError, match='efficient_conv_bn_eval=.*backbone'):
        preflight.check_forwards(cfg, model)
    images = torch.randn(2, 3, 16, 16)
    set_scaler(model, 0.0)
    student = model(images)
    set_scaler(model, 1.0)
    teacher = model(images)
    assert (student - teacher).abs().max() > 1e-3
    turn_on_efficient_conv_bn_eval(model, names)
    set_scaler(model, 0.0)
    torch.testing.assert_close(model(images), teacher)


def test_what_has_no_gates_may_be_traced(classifier_cfg: Callable[..., dict]):
    cfg = Config(dict(efficient_conv_bn_eval=['backbone']))
    model_cfg = classifier_cfg()
    model_cfg['backbone'] = dict(type='ResNet', depth=18)
    preflight.check_forwards(cfg, MODELS.build(model_cfg))
    cfg.efficient_conv_bn_eval = ['head']
    preflight.check_forwards(cfg, MODELS.build(classifier_cfg()))
    cfg.efficient_conv_bn_eval = []
    preflight.check_forwards(cfg, MODELS.build(classifier_cfg()))


FROZEN_STEM = "reuse=dict(inherit='all', freeze=['stem'])"


@pytest.mark.parametrize(
    ('options', 'setting', 'message'),
    [
        (
            FROZEN_STEM,
            "activation_checkpointing = ['architecture.backbone.layer1']",
            "'architecture.backbone.layer1' would not train",
        ),
        (
            '',
            "activation_checkpointing = ['backbone.layer1']",
            "no module 'backbone.layer1'. Did you mean "
            "'architecture.backbone.layer1'?",
        ),
        (
            '',
            "efficient_conv_bn_eval = ['architecture.backbone']",
            'the gate of `architecture.backbone.layer1.0.conv1` would stay',
        ),
        (
            '',
            "efficient_conv_bn_eval = ['architecture.backbne']",
            "no module 'architecture.backbne'. Did you mean",
        ),
    ],
)
def test_train_says_so_before_it_writes(
    make_config: Make, refuse: Refuse, options: str, setting: str, message: str
):
    model = (
        "dict(_scope_='mmrazor', type='SupernetDistill', "
        f'architecture=classifier, distiller=None, {options})'
    )
    path = make_config(model=model)
    path.write_text(f'{path.read_text()}\n{setting}\n')
    assert message in refuse(path)
