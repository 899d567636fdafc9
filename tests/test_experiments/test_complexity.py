# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Parts and totals against published figures and counts by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config
from mmpretrain.datasets.transforms import RandomResizedCrop
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reducenet_mm.experiments.benchmarks.complexity import (
    Complexity,
    build_networks,
    input_shape,
    measure_complexity,
    total,
)
from reducenet_mm.experiments.cost import network_size
from reducenet_mm.models.supernet import hosts

CIFAR = 'configs/reducenet/cifar10/reducenet20-w16-e1_cifar10_{}.py'
DIGITS = 'configs/reducenet/digits/{}.py'


def digits(name: str) -> Config:
    return Config.fromfile(DIGITS.format(name))


def cifar(depth: int, width: int) -> Config:
    cfg = Config.fromfile(CIFAR.format('teacher'))
    cfg.model.backbone.update(depth=depth, base_channels=width)
    cfg.model.head.in_channels = 4 * width
    return cfg


@pytest.mark.parametrize(
    ('depth', 'width', 'teacher', 'student'),
    [
        (20, 16, (412_058, 62.0), (272_474, 40.8)),
        (20, 32, (1_640_234, 247.3), (1_084_586, 162.4)),
        (20, 64, (6_544_970, 987.4), (4_327_754, 647.7)),
        (56, 16, (1_320_602, 194.2), (855_770, 125.7)),
        (56, 32, (5_263_658, 775.8), (3_412_394, 502.1)),
    ],
)
def test_totals_are_the_published_ones(
    depth: int, width: int, teacher: tuple, student: tuple
) -> None:
    networks = build_networks(cifar(depth, width))
    for name, published in (('teacher', teacher), ('student', student)):
        found = total(measure_complexity(networks[name], (3, 32, 32)))
        mega = round(found.multiply_adds / 1e6, 1)
        assert (found.params, mega) == published


def test_totals_are_those_of_other_counters() -> None:
    """MMEngine counts all parameters: equal where none are idle."""
    networks = build_networks(digits('reducenet8-w16-e4_digits_student'))
    for name, network in networks.items():
        found = total(measure_complexity(network, (1, 8, 8)))
        size = network_size(network, (1, 8, 8))
        theirs = get_model_complexity_info(
            network, (1, 8, 8), show_table=False, show_arch=False
        )
        assert found.multiply_adds == size.multiply_adds
        assert found.mmengine_flops == theirs['flops']
        if name != 'student':
            assert found.params == size.params == theirs['params']


def test_parts_by_hand() -> None:
    networks = build_networks(digits('reducenet8-w16-e4_digits_teacher'))
    teacher, student, deployed = (
        measure_complexity(network, (1, 8, 8)) for network in networks.values()
    )
    assert list(teacher) == [
        *('stem', 'layer1', 'layer2', 'layer3', 'classifier')
    ]
    stem = 64 * 16 * 9
    assert student['stem'] == Complexity(9 * 16 + 32, stem, stem + 2 * 64 * 16)
    assert deployed['stem'] == Complexity(9 * 16 + 16, stem, stem)
    # A 3x3 convolution to 64 channels, a 1x1 one back, each with its norm.
    branch_params = 16 * 64 * 9 + 64 * 16 + 2 * (64 + 16)
    branch = 64 * (16 * 64 * 9 + 64 * 16)
    assert teacher['layer1'] - student['layer1'] == Complexity(
        branch_params, branch, branch + 2 * 64 * (64 + 16)
    )
    # Pooling takes 2x2 values of 64 channels.
    for parts in (teacher, student, deployed):
        assert parts['classifier'] == Complexity(650, 640, 640 + 256)


def test_checkpointing_changes_no_count() -> None:
    cfg = digits('reducenet8-w16-e4_digits_teacher')
    plain = measure_complexity(build_networks(cfg)['teacher'], (1, 8, 8))
    cfg.model.backbone.with_cp = True
    network = build_networks(cfg)['teacher']
    assert measure_complexity(network, (1, 8, 8)) == plain
    assert total(plain).multiply_adds == 2_139_776


def test_a_distillation_has_the_networks_of_its_classifier() -> None:
    found = [
        [
            measure_complexity(network, (1, 8, 8))
            for network in build_networks(digits(name)).values()
        ]
        for name in (
            'reducenet8-w16-e4_digits_teacher',
            'reducenet8-w16-e4_digits_inplace',
        )
    ]
    assert found[0] == found[1]


def test_what_a_network_does_not_use_is_not_its_own() -> None:
    with_lora = build_networks(digits('reducenet8-w16-e4_digits_lora'))
    without = build_networks(digits('reducenet8-w16-e4_digits_teacher'))
    one, other = (
        {
            name: total(measure_complexity(network, (1, 8, 8)))
            for name, network in networks.items()
        }
        for networks in (with_lora, without)
    )
    assert one['teacher'] == other['teacher']
    assert one['deployed'] == other['deployed']
    assert one['student'].params > other['student'].params


def test_what_a_batch_pays_once_is_not_an_image_s() -> None:
    cfg = digits('reducenet8-w16-e4_digits_teacher')
    cfg.model.backbone.lora = dict(kind='weight')
    networks = build_networks(cfg)
    student, deployed = (
        total(measure_complexity(networks[name], (1, 8, 8)))
        for name in ('student', 'deployed')
    )
    assert student.multiply_adds == deployed.multiply_adds == 763_520
    norms = 2 * (3 * 64 * 16 + 3 * 16 * 32 + 3 * 4 * 64)
    assert student.mmengine_flops - deployed.mmengine_flops == norms
    # One pass computes `up @ down` as well, for however many images.
    size = network_size(networks['student'], (1, 8, 8))
    products = 16 * 16 * 144 + 32 * 32 * 144 + 64 * 64 * 288
    assert size.multiply_adds == 763_520 + products


def test_the_deployed_network_is_what_ships() -> None:
    """The backbone's own switch has made it, and computes as the student."""
    cfg = digits('reducenet8-w16-e4_digits_lora')
    networks = build_networks(cfg)
    deployed = networks['deployed']
    assert deployed.backbone.deploy
    modules = [
        (name, repr(module))
        for name, module in deployed.backbone.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    cfg.model.architecture.backbone.deploy = True
    shipped = MODELS.build(cfg.model.architecture.backbone)
    assert modules == [
        (name, repr(module))
        for name, module in shipped.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(
        deployed(images), networks['student'](images), rtol=1e-4, atol=1e-5
    )


def test_norms_that_cannot_be_folded_stay() -> None:
    cfg = digits('reducenet8-w16-e4_digits_teacher')
    cfg.model.backbone.norm_cfg = dict(type='GN', num_groups=4)
    deployed = build_networks(cfg)['deployed']
    assert not list(hosts(deployed))
    norms = [m for m in deployed.modules() if isinstance(m, nn.GroupNorm)]
    assert len(norms) == 9


def test_the_deployed_network_is_bare_and_smaller() -> None:
    cfg = digits('reducenet8-w16-e4_digits_teacher')
    cfg.model.backbone.block = 'sequential'
    networks = build_networks(cfg)
    bare = networks['deployed']
    assert not list(hosts(bare))
    assert not any(isinstance(m, _BatchNorm) for m in bare.modules())
    teacher, student, deployed = (
        total(measure_complexity(network, (1, 8, 8)))
        for network in networks.values()
    )
    # In this block the student's pair is as large until it is merged.
    assert student == teacher
    assert deployed.multiply_adds == 763_520 < student.multiply_adds


def test_a_plain_network_has_no_teacher() -> None:
    networks = build_networks(digits('plain8-w16_digits'))
    assert list(networks) == ['student', 'deployed']


def test_neither_data_nor_checkpoints_are_read() -> None:
    cfg = digits('reducenet8-w16-e4_digits_student')
    cfg.model.teacher_ckpt = 'is/not/there.pth'
    cfg.train_dataloader.dataset = dict(type='FashionMNIST', data_root='no/')
    text = cfg.pretty_text
    build_networks(cfg)
    assert cfg.pretty_text == text


class Odd(nn.Module):
    """Stages in a list, a norm behind them, a product of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1)
        self.stages = nn.ModuleList(nn.Conv2d(2, 2, 1) for _ in range(2))
        self.norm = nn.BatchNorm2d(2)
        self.scale = nn.Parameter(torch.ones(2, 2, 1, 1))
        self.idle = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for stage in self.stages:
            x = stage(x)
        return nn.functional.conv2d(self.norm(x), self.scale)


class OddClassifier(nn.Module):
    """A backbone and two modules around it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Odd()
        self.neck = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.neck(self.backbone(x)).flatten(1))


def test_other_backbones_and_what_none_of_their_modules_does() -> None:
    network = OddClassifier().train()
    network.backbone.first.requires_grad_(False)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert measure_complexity(network, (1, 2, 2)) == {
        'stem': Complexity(4, 8, 8),
        'stages.0': Complexity(6, 16, 16),
        'stages.1': Complexity(6, 16, 16),
        'norm': Complexity(4, 0, 16),
        'classifier': Complexity(15, 10, 10 + 8),
        'other': Complexity(4, 16, 16),
    }
    assert network.training
    assert not network.backbone.first.weight.requires_grad
    assert network.head.weight.grad is None
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize(
    ('config', 'size', 'shape'),
    [
        (DIGITS.format('plain8-w16_digits'), None, (1, 8, 8)),
        (DIGITS.format('plain8-w16_digits'), [9], (1, 9, 9)),
        (DIGITS.format('plain8-w16_digits'), [9, 7], (1, 9, 7)),
        (CIFAR.format('student'), None, (3, 32, 32)),
        (
            'configs/reducenet/imagenet/plain18_imagenet.py',
            None,
            (3, 224, 224),
        ),
        (
            'configs/reducenet/fashion-mnist/plain8-w16_fashion-mnist.py',
            None,
            (1, 28, 28),
        ),
    ],
)
def test_the_shape_is_that_of_the_data(
    config: str, size: list[int] | None, shape: tuple[int, ...]
) -> None:
    first = nn.Conv2d(shape[0], 1, 1)
    network = nn.Sequential(first, nn.Conv2d(1, 7, 1))
    assert input_shape(Config.fromfile(config), network, size) == shape


def test_a_random_resized_crop_says_the_shape_too() -> None:
    pipeline: list[dict[str, Any]] = [
        dict(type='RandomCrop', crop_size=40),
        dict(type='RandomResizedCrop', scale=(20, 20)),
        dict(type='PackInputs'),
    ]
    for kind in (
        'RandomResizedCrop',
        'mmpretrain.RandomResizedCrop',
        RandomResizedCrop,
    ):
        pipeline[1]['type'] = kind
        cfg = Config(
            dict(train_dataloader=dict(dataset=dict(pipeline=pipeline)))
        )
        assert input_shape(cfg, nn.Conv2d(3, 1, 1)) == (3, 20, 20)


@pytest.mark.parametrize(
    ('size', 'message'),
    [
        (None, 'do not say how big an image is'),
        ([0], r'got \[0\]'),
        ([1, 2, 3], r'Give --shape H \[W\]'),
    ],
)
def test_a_wrong_or_unknown_shape_is_refused(
    size: list[int] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        input_shape(Config(dict()), nn.Conv2d(3, 1, 1), size)
