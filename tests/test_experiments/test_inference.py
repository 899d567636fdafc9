# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Modes run the same function in turns; medians are of given samples."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmpretrain.models.backbones.resnet_cifar import ResNet_CIFAR
from torch import Tensor, nn
from torch._inductor import config as inductor

from reducenet_mm.experiments.benchmarks.complexity import build_networks
from reducenet_mm.experiments.benchmarks.inference import (
    MODES,
    StockResNet_CIFAR,
    Unavailable,
    compared_networks,
    measure_modes,
    plain_network,
    summarize_mode,
)
from reducenet_mm.experiments.benchmarks.timing import WARM_UP
from tests.conftest import randomise_norms

STUDENT = 'configs/reducenet/digits/reducenet8-w16-e4_digits_student.py'


class Recorder(nn.Module):
    """Notes when it is called, and how."""

    def __init__(self, name: str, calls: list) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3)
        self.name, self.calls = name, calls

    def __deepcopy__(self, memo: dict) -> Recorder:
        other = Recorder(self.name, self.calls)
        other.load_state_dict(self.state_dict())
        return other

    def forward(self, images: Tensor) -> Tensor:
        channels_last = [
            tensor.is_contiguous(memory_format=torch.channels_last)
            for tensor in (images, self.conv.weight)
        ]
        grad = torch.is_grad_enabled()
        self.calls.append((self.name, len(images), channels_last, grad))
        return self.conv(images)


def test_medians_quartiles_and_ratios_of_given_samples() -> None:
    times = dict(
        teacher=[0.010, 0.020, 0.040],
        student=[0.005, 0.005, 0.004],
        deployed=[0.002, 0.004, 0.004],
        plain=[0.002, 0.002, 0.004],
    )
    found = summarize_mode(times, 8)
    assert found['milliseconds']['teacher'] == pytest.approx(
        dict(median=20, quartile1=15, quartile3=30)
    )
    assert found['images_per_second']['deployed'] == pytest.approx(
        dict(median=2000, quartile1=2000, quartile3=3000)
    )
    assert found['ratios']['student/teacher'] == pytest.approx(
        dict(median=0.25, quartile1=0.175, quartile3=0.375)
    )
    # Within each round: 1, 2, 1; the ratio of the medians would be 2.
    assert found['ratios']['deployed/plain']['median'] == 1
    assert set(found['ratios']) == {
        *('student/teacher', 'deployed/teacher'),
        *('deployed/student', 'deployed/plain'),
    }


def test_networks_and_modes_take_turns() -> None:
    calls: list = []
    networks = {name: Recorder(name, calls) for name in ('student', 'plain')}
    modes = ['channels_last', 'eager']
    found = measure_modes(networks, (2, 4, 4), (3, 2), modes, rounds=2)
    turn = [
        ('student', 3, [True, True], False),
        ('plain', 3, [True, True], False),
        ('student', 3, [False, False], False),
        ('plain', 3, [False, False], False),
    ]
    first = turn * WARM_UP + turn + turn[::-1]
    assert calls[: len(first)] == first
    assert len(calls) == 2 * len(first)
    assert {images for _, images, *_ in calls[len(first) :]} == {2}
    assert found['skipped'] == {}
    assert list(found['results']) == modes
    for batches in found['results'].values():
        assert list(batches) == ['3', '2']
        for one in batches.values():
            assert set(one['milliseconds']) == set(networks)
            for value in one['milliseconds'].values():
                assert 0 < value['quartile1'] <= value['median']
    weight = networks['plain'].conv.weight
    assert not weight.is_contiguous(memory_format=torch.channels_last)


@pytest.fixture
def tiny() -> dict[str, nn.Module]:
    layers = [nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 4)]
    return dict(plain=nn.Sequential(*layers).eval())


def answers(
    mode: str, networks: Mapping[str, nn.Module], images: Tensor
) -> dict[str, Any]:
    with torch.no_grad():
        runs = MODES[mode](networks, images)
        return {name: run() for name, run in runs.items()}


@pytest.mark.parametrize('mode', ['channels_last', 'compiled', 'onnx'])
def test_every_mode_runs_the_same_function(
    mode: str,
    tiny: dict[str, nn.Module],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path))
    if mode == 'compiled':  # without C++ code, which takes half a minute
        tiny = dict(plain=nn.Sequential(nn.Flatten(), nn.Linear(32, 4)))
    images = torch.randn(2, 2, 4, 4)
    wanted = answers('eager', tiny, images)['plain']
    try:
        found = answers(mode, tiny, images)['plain']
    except Unavailable as error:
        pytest.skip(str(error))
    torch.testing.assert_close(found, wanted)


def test_without_a_compiler_the_others_are_measured(
    tiny: dict[str, nn.Module],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path))
    modes = ['compiled', 'eager']
    none = {'cpp.cxx': (str(tmp_path / 'no-compiler'),)}
    with inductor.patch({**none, 'force_disable_caches': True}):
        found = measure_modes(tiny, (2, 4, 4), (2, 3), modes, rounds=2)
    assert list(found['results']) == ['eager']
    assert list(found['results']['eager']) == ['2', '3']
    assert 'torch.compile: ' in found['skipped']['compiled']
    assert 'compiler' in found['skipped']['compiled']
    assert '\n' not in found['skipped']['compiled']


def test_without_onnxruntime_the_reason_says_how_to_get_it(
    tiny: dict[str, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    found = measure_modes(tiny, (2, 4, 4), (2,), ['onnx'], rounds=2)
    assert found['results'] == {}
    assert 'pip install' in found['skipped']['onnx']


def test_the_plain_network_has_the_deployed_ones_shape() -> None:
    networks = compared_networks(Config.fromfile(STUDENT))
    assert list(networks) == ['teacher', 'student', 'deployed', 'plain']
    plain, deployed = networks['plain'], networks['deployed']
    assert not any(network.training for network in networks.values())
    for param in plain.parameters():
        nn.init.normal_(param, std=0.1)
    deployed.load_state_dict(plain.state_dict())  # the keys and the shapes
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(deployed(images), plain(images))
    assert deployed.backbone.deploy
    randomise_norms(networks['student'])  # it still has them
    assert not torch.allclose(networks['student'](images), plain(images))


def test_the_reference_is_not_of_this_project() -> None:
    backbone = plain_network(Config.fromfile(STUDENT)).backbone
    ours = {
        type(module)
        for module in backbone.modules()
        if type(module).__module__.startswith('reducenet_mm')
    }
    assert ours == {StockResNet_CIFAR}  # which has the arch table alone
    assert StockResNet_CIFAR.__bases__ == (ResNet_CIFAR,)
    methods = [v for v in vars(StockResNet_CIFAR).values() if callable(v)]
    assert methods == []


@pytest.mark.parametrize(
    ('settings', 'name'),
    [
        (dict(), 'StockResNet_CIFAR'),
        (dict(act_cfg=dict(type='ReLU')), 'StockResNet_CIFAR'),
        (dict(act_cfg=dict(type='SiLU')), 'StudentResNet_CIFAR'),
        (dict(block='parallel'), 'StudentResNet_CIFAR'),
        (dict(out_indices=(1, 2), depth=14), 'StockResNet_CIFAR'),
        (dict(depth=18), 'ResNet'),
    ],
)
def test_the_reference_computes_what_the_student_computes(
    settings: dict[str, Any], name: str
) -> None:
    cfg = Config.fromfile(STUDENT)
    cfg.model.architecture.backbone.update(settings)
    if settings.get('depth') == 18:
        cfg.model.architecture.head.in_channels = 128
    plain = plain_network(cfg)
    assert type(plain.backbone).__name__ == name
    randomise_norms(plain)
    student = build_networks(cfg)['student']
    student.load_state_dict(plain.state_dict(), strict=False)
    images = torch.randn(2, 1, 32, 32)
    for one, other in zip(plain.backbone(images), student.backbone(images)):
        torch.testing.assert_close(one, other)


def test_a_network_without_a_student_is_refused() -> None:
    cfg = Config.fromfile('configs/reducenet/digits/plain8-w16_digits.py')
    with pytest.raises(ValueError, match='only a network with a ReduceNet'):
        compared_networks(cfg)
