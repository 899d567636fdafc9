# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The backbone that is shipped: ``PlainResNet``'s function, of stock parts."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.runner.checkpoint import load_state_dict
from mmpretrain.models.backbones.resnet import ResNet
from mmpretrain.models.backbones.resnet_cifar import ResNet_CIFAR
from mmpretrain.registry import MODELS
from torch import nn

from reducenet_mm.export import student_backbone
from reducenet_mm.export.student_backbone import (
    StudentResNet,
    StudentResNet_CIFAR,
)
from reducenet_mm.models import PlainResNet
from tests.conftest import randomise_norms

CIFAR_DEPTHS = [6 * n + 2 for n in range(1, 19) if n != 8]

SETTINGS: dict[str, dict[str, Any]] = {
    'default': {},
    'grey': dict(in_channels=1),
    'stages': dict(out_indices=(0, 2)),
    'first stage': dict(out_indices=[0]),
    'group norm': dict(norm_cfg=dict(type='GN', num_groups=2)),
    'gelu': dict(act_cfg=dict(type='GELU')),
    'learnt act': dict(act_cfg=dict(type='PReLU', init=0.1)),
    'sum': dict(out_act=False),
    'sum, leaky': dict(out_act=False, act_cfg=dict(type='LeakyReLU')),
}


@pytest.fixture
def _registered() -> Iterator[None]:
    """Put the package's classes back into MMPretrain's registry."""
    yield
    for cls in (StudentResNet, StudentResNet_CIFAR):
        MODELS.register_module(cls.__name__, force=True, module=cls)


def student(depth: int, **settings: Any) -> nn.Module:
    small = depth in CIFAR_DEPTHS
    cls = StudentResNet_CIFAR if small else StudentResNet
    return cls(depth, **settings)


def randomised(net: nn.Module) -> nn.Module:
    """Let nothing of a network be as it starts."""
    for param in net.parameters():
        nn.init.normal_(param, std=0.3)
    return randomise_norms(net)


def test_the_classes_are_mmpretrains_with_another_table() -> None:
    assert issubclass(StudentResNet_CIFAR, ResNet_CIFAR)
    assert issubclass(StudentResNet, ResNet)
    assert sorted(StudentResNet_CIFAR.arch_settings) == CIFAR_DEPTHS
    both = StudentResNet_CIFAR.arch_settings | StudentResNet.arch_settings
    assert both == PlainResNet.arch_settings


@pytest.mark.parametrize('depth', [*CIFAR_DEPTHS, 18, 34])
def test_keys_and_shapes_are_those_of_the_plain_network(depth: int) -> None:
    ours = student(depth, base_channels=2).state_dict()
    plain = PlainResNet(depth, base_channels=2).state_dict()
    shapes = {key: value.shape for key, value in ours.items()}
    assert shapes == {key: value.shape for key, value in plain.items()}


@pytest.mark.parametrize('name', SETTINGS)
@pytest.mark.parametrize('depth', [8, 18])
def test_outputs_are_the_plain_networks_to_the_bit(
    depth: int, name: str
) -> None:
    settings = dict(SETTINGS[name], base_channels=4)
    plain = randomised(PlainResNet(depth, **settings))
    ours = randomised(student(depth, **settings))
    other = PlainResNet(depth, **settings)
    images = torch.randn(3, settings.get('in_channels', 3), 17, 17)
    other.load_state_dict(ours.state_dict(), strict=True)
    assert_equal(ours, other, images)
    ours.load_state_dict(plain.state_dict(), strict=True)
    assert_equal(ours, plain, images)


def assert_equal(one: nn.Module, two: nn.Module, images: torch.Tensor) -> None:
    for training in (False, True):
        one.train(training), two.train(training)
        outputs = one(images), two(images)
        assert len(outputs[0]) == len(outputs[1])
        for first, second in zip(*outputs, strict=True):
            assert first.std() > 0 and first.isfinite().all()
            assert torch.equal(first, second)


def test_without_the_last_activation_it_is_another_function() -> None:
    relu = randomised(StudentResNet_CIFAR(8, base_channels=4))
    bare = StudentResNet_CIFAR(8, base_channels=4, out_act=False)
    bare.load_state_dict(relu.state_dict(), strict=True)
    relu.eval(), bare.eval()
    images = torch.randn(2, 3, 12, 12)
    assert (relu(images)[0] >= 0).all()
    assert (bare(images)[0] < 0).any()


@pytest.mark.parametrize('name', ['default', 'gelu', 'sum, leaky'])
@pytest.mark.parametrize('depth', [8, 18])
def test_folded_it_is_the_same_function(depth: int, name: str) -> None:
    settings = dict(SETTINGS[name], base_channels=4)
    net = randomised(student(depth, **settings)).double()
    folded = student(depth, folded=True, **settings).double()
    net.eval(), folded.eval()
    kinds = {type(module) for module in folded.modules()}
    assert nn.BatchNorm2d not in kinds
    images = torch.randn(2, 3, 17, 17, dtype=torch.float64)
    wanted = net(images)[0]
    folded.load_state_dict(fuse_conv_bn(net).state_dict(), strict=True)
    torch.testing.assert_close(folded(images)[0], wanted, rtol=1e-10, atol=0)
    with torch.no_grad():  # negative control
        folded.layer1[0].conv2.bias.zero_()
    assert not torch.allclose(folded(images)[0], wanted, rtol=1e-3)


def test_default_widths_are_those_of_the_papers_networks() -> None:
    assert StudentResNet_CIFAR(8).conv1.out_channels == 16
    assert StudentResNet(18).conv1.out_channels == 64


def test_a_depth_without_a_network_is_refused() -> None:
    with pytest.raises(ValueError, match='CIFAR has no depth 18.*110'):
        StudentResNet_CIFAR(18)
    with pytest.raises(ValueError, match=r'no depth 20.*\[18, 34\]'):
        StudentResNet(20)


def test_it_can_be_fine_tuned_as_mmpretrains() -> None:
    net = StudentResNet_CIFAR(8, frozen_stages=1, norm_eval=True)
    net.init_weights()
    assert (net.layer2[0].bn2.weight == 0).all()  # zero_init_residual
    net.train()
    frozen = {n for n, p in net.named_parameters() if not p.requires_grad}
    parts = {name.split('.')[0] for name in frozen}
    assert parts == {'conv1', 'bn1', 'layer1'}
    assert not net.layer3[0].bn1.training and net.layer3.training


def test_the_file_imports_mmpretrain_and_what_that_needs() -> None:
    tree = ast.parse(inspect.getsource(student_backbone))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None
            found.add(node.module.split('.')[0])
    assert 'mmpretrain' in found
    known = {'__future__', 'collections', 'typing'}
    assert found - known == {'mmcv', 'mmpretrain', 'torch'}


@pytest.mark.usefixtures('_registered')
def test_a_copy_of_the_file_registers_beside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'copied.py'
    path.write_text(inspect.getsource(student_backbone))
    spec = importlib.util.spec_from_file_location('copied', path)
    assert spec is not None and spec.loader is not None
    for _ in range(2):
        copied = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, 'copied', copied)
        spec.loader.exec_module(copied)
        assert copied.StudentResNet_CIFAR is not StudentResNet_CIFAR
        cfg = dict(type='StudentResNet_CIFAR', depth=8, base_channels=2)
        assert type(MODELS.build(cfg)) is copied.StudentResNet_CIFAR


def test_what_would_be_loaded_in_part_is_refused() -> None:
    plain = student(8, base_channels=2)
    folded = student(8, base_channels=2, folded=True)
    own = {f'backbone.{k}': v for k, v in plain.state_dict().items()}
    merged = {f'backbone.{k}': v for k, v in folded.state_dict().items()}
    branch = {'backbone.layer1.0.conv1.lora.up': torch.ones(1)}
    classifier = dict(type='mmpretrain.ImageClassifier', neck=None, head=None)
    for backbone, state, reason in (
        (plain, {f'architecture.{k}': v for k, v in own.items()}, 'distil'),
        (plain, merged, 'folded=False'),
        (folded, own, 'folded=True'),
        (plain, {**own, **branch}, 'branches'),
    ):
        network = MODELS.build(dict(classifier, backbone=backbone))
        before = {k: v.clone() for k, v in network.state_dict().items()}
        for load in (load_state_dict, nn.Module.load_state_dict):
            with pytest.raises(ValueError, match=reason):
                load(network, state, strict=False)
        after = network.state_dict()
        assert all(torch.equal(after[k], v) for k, v in before.items())
