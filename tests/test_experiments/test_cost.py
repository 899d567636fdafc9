# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Counted costs against costs worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from reducenet_mm import set_scaler
from reducenet_mm.experiments.cost import (
    build_model,
    count_test_images,
    measure_training,
    network_size,
)
from reducenet_mm.experiments.steps import step_multiply_adds

# Multiply-adds of one 6x6 image in the network below.
CONV1 = 36 * 4 * (3 * 9)  # 3 -> 4 channels, 6x6 outputs
CONV2 = 9 * 8 * (4 * 9)  # 4 -> 8 channels, 3x3 outputs
FC = 8 * 5
FORWARD = CONV1 + CONV2 + FC
DIGITS = 'configs/reducenet/digits/'


class SmallNet(BaseModel):
    """Two convolutions, a norm, a linear layer; perhaps a teacher."""

    def __init__(self, teacher: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8, 5)
        self.teacher = teacher

    def forward(
        self, inputs: Tensor, samples: Any = None, mode: str = 'tensor'
    ) -> Any:
        out = self.conv2(self.norm(self.conv1(inputs)).relu())
        logits = self.fc(out.mean((2, 3)))
        if mode == 'tensor':
            return logits
        loss = nn.functional.cross_entropy(logits, samples)
        if self.teacher is None:
            return dict(loss=loss)
        with torch.no_grad():
            target = self.teacher(inputs)
        return dict(loss=loss, loss_soft=(logits - target).square().mean())


def step(model: BaseModel, images: int = 3) -> int:
    inputs, labels = torch.randn(images, 3, 6, 6), torch.arange(images)
    return step_multiply_adds(model, inputs, labels)


def test_a_step_is_forward_and_backward() -> None:
    # The images need no gradient: conv1 has one of its weights only.
    assert step(SmallNet(), 3) == 3 * (3 * FORWARD - CONV1)


def test_a_frozen_first_layer_has_no_backward() -> None:
    model = SmallNet()
    model.conv1.requires_grad_(False)
    model.norm.requires_grad_(False)
    assert step(model, 2) == 2 * (FORWARD + CONV2 + 2 * FC)


def test_a_frozen_last_layer_passes_gradients_on() -> None:
    model = SmallNet()
    model.fc.requires_grad_(False)
    assert step(model, 2) == 2 * (3 * FORWARD - CONV1 - FC)


def test_a_teachers_forward_is_counted_once() -> None:
    with_teacher, alone = SmallNet(SmallNet()), SmallNet()
    assert step(with_teacher, 2) - step(alone, 2) == 2 * FORWARD


@pytest.mark.parametrize(
    ('conv', 'once'),
    [
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), 36 * 8 * 9),
        (nn.Conv2d(8, 4, 3, stride=2, padding=1, groups=2), 9 * 4 * (4 * 9)),
        # Each of the 6x6 inputs is spread over 3x3 outputs.
        (nn.ConvTranspose2d(8, 4, 3, groups=4), 36 * 8 * (1 * 9)),
        (nn.Conv2d(8, 8, 3, padding=1), 36 * 8 * (8 * 9)),
    ],
)
def test_groups_are_counted_backward_as_forward(
    conv: nn.Module, once: int
) -> None:
    class Net(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.conv = nn.Conv2d(3, 8, 1), conv

        def forward(self, inputs: Tensor, samples: Any, mode: str) -> Any:
            return dict(loss=self.conv(self.first(inputs)).sum())

    first = 36 * 3 * 8
    # Images need no gradient; for the second, all three products are alike.
    assert step(Net(), images=2) == 2 * (2 * first + 3 * once)


def test_counting_leaves_weights_and_gradients_alone() -> None:
    model = SmallNet()
    before = {k: v.clone() for k, v in model.named_parameters()}
    step(model)
    for name, param in model.named_parameters():
        assert torch.equal(param, before[name])
        assert param.grad is None


def test_inference_counts_convolutions_and_linear_layers() -> None:
    size = network_size(SmallNet(), (3, 6, 6))
    assert size.multiply_adds == FORWARD
    assert size.params == (108 + 4) + 8 + (288 + 8) + (40 + 5)


@pytest.mark.parametrize(
    ('depth', 'width', 'scaler', 'params', 'mega'),
    [
        (20, 16, 1.0, 412_058, 62.0),
        (20, 16, 0.0, 272_474, 40.8),
        (20, 32, 1.0, 1_640_234, 247.3),
        (20, 32, 0.0, 1_084_586, 162.4),
        (56, 16, 0.0, 855_770, 125.7),
    ],
)
def test_published_sizes(
    depth: int, width: int, scaler: float, params: int, mega: float
) -> None:
    backbone: dict[str, Any] = dict(type='PlainResNet')
    if scaler:
        backbone = dict(type='ReduceNet', expansion=1, scaler=scaler)
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(backbone, depth=depth, base_channels=width),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead', num_classes=10, in_channels=4 * width
            ),
        )
    )
    size = network_size(model, (3, 32, 32))
    assert size.params == params
    assert round(size.multiply_adds / 1e6, 1) == mega


def test_digits_stages_cost_what_their_parts_do() -> None:
    costs = {}
    for name in ('teacher', 'student'):
        cfg = Config.fromfile(f'{DIGITS}reducenet8-w16-e4_digits_{name}.py')
        if name == 'student':
            cfg.model.teacher_ckpt = 'is/not/read.pth'
            cfg.model.update(teacher_ckpt=None)
        costs[name] = measure_training(cfg)
    plain_cfg = Config.fromfile(f'{DIGITS}plain8-w16_digits.py')
    plain = measure_training(plain_cfg)
    assert plain.input_shape == (1, 8, 8)
    assert plain.images_per_epoch == 997
    assert plain.iterations_per_epoch == 16
    assert plain.per_epoch == 997 * plain.per_image

    teacher_cfg = Config.fromfile(
        f'{DIGITS}reducenet8-w16-e4_digits_teacher.py'
    )
    supernet = build_model(teacher_cfg)
    forward = network_size(supernet, (1, 8, 8)).multiply_adds
    # The student's frozen classifier has no weight gradient: 64 * 10.
    assert costs['student'].per_image == plain.per_image + forward - 640
    stem = 64 * 16 * 9
    assert costs['teacher'].per_image == 3 * forward - stem
    set_scaler(supernet, 0.0)
    student = network_size(supernet, (1, 8, 8)).multiply_adds
    assert plain.per_image == 3 * student - stem


@pytest.mark.parametrize(
    ('name', 'between'),
    [('inplace', 0), ('inplace-sandwich', 1), ('inplace-netaug', 0)],
)
def test_in_place_training_costs_both_networks(
    name: str, between: int
) -> None:
    """Each one's forward and twice that backward; images have no gradient."""
    cfg = Config.fromfile(f'{DIGITS}reducenet8-w16-e4_digits_{name}.py')
    supernet = build_model(
        Config.fromfile(f'{DIGITS}reducenet8-w16-e4_digits_teacher.py')
    )
    forward = {}
    for scaler in (0.0, 1.0):
        set_scaler(supernet, scaler)
        forward[scaler] = network_size(supernet, (1, 8, 8)).multiply_adds
    stem = 64 * 16 * 9
    teacher, student = (3 * forward[scaler] - stem for scaler in (1.0, 0.0))
    cost = measure_training(cfg).per_image
    assert cost == teacher + student + between * teacher


@pytest.mark.parametrize(
    ('order', 'shares'),
    # Three blocks take turns in the first half, the last one first.
    [
        (None, (1 / 2, 1 / 2, 1 / 2)),
        ('deepest_first', (8 / 16, 5 / 16, 2 / 16)),
    ],
)
def test_fading_branches_cost_while_they_are_on(
    order: str | None, shares: tuple[float, ...]
) -> None:
    """Branches do not train: forward, and backward to what comes before."""
    cfg = Config.fromfile(f'{DIGITS}reducenet8-w16-e4_digits_student.py')
    cfg.model.update(teacher_ckpt=None)
    cfg.train_cfg.max_epochs = 1  # of 16 iterations
    abrupt = measure_training(cfg).per_image
    hook = dict(type='ScalerScheduleHook', order=order)
    cfg.custom_hooks = [*cfg.custom_hooks, hook]
    branches = [
        64 * 16 * (9 * 64) + 64 * 64 * 16,
        16 * 16 * (9 * 128) + 16 * 128 * 32,
        4 * 32 * (9 * 256) + 4 * 256 * 64,
    ]
    added = sum(2 * part * share for part, share in zip(branches, shares))
    cost = measure_training(cfg).per_image
    assert cost == pytest.approx(abrupt + added, rel=1e-12)


@pytest.mark.parametrize(
    ('block', 'fades'), [('sequential', 0), ('postsum', 1)]
)
def test_a_hook_may_be_written_as_mmengine_allows(
    block: str, fades: int
) -> None:
    """Activations that fade cost nothing: only products are counted."""
    cfg = Config.fromfile(f'{DIGITS}reducenet8-w16-e4_digits_student.py')
    cfg.model.update(teacher_ckpt=None)
    cfg.model.architecture.backbone.block = block
    cfg.custom_hooks = None  # as MMEngine allows
    abrupt = measure_training(cfg).per_image
    hook = dict(type='mmengine.ScalerScheduleHook', priority=40)
    cfg.custom_hooks = [hook]
    annealed = measure_training(cfg).per_image
    assert (annealed > abrupt) == bool(fades)
    cfg.custom_hooks = None
    cfg.default_hooks.fading = hook
    assert measure_training(cfg).per_image == annealed


def test_an_incomplete_last_batch_may_be_dropped() -> None:
    cfg = Config.fromfile(f'{DIGITS}plain8-w16_digits.py')
    cfg.train_dataloader.drop_last = True
    cost = measure_training(cfg)
    assert (cost.images_per_epoch, cost.iterations_per_epoch) == (960, 15)


def test_test_images_are_counted() -> None:
    assert (
        count_test_images(Config.fromfile(f'{DIGITS}plain8-w16_digits.py'))
        == 500
    )


def test_measuring_leaves_the_random_state_and_the_config_alone() -> None:
    cfg = Config.fromfile(f'{DIGITS}plain8-w16_digits.py')
    text, state = cfg.pretty_text, torch.get_rng_state()
    measure_training(cfg)
    assert cfg.pretty_text == text
    assert torch.equal(torch.get_rng_state(), state)
