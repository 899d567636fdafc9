# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The step benchmark compares like with like."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmpretrain.structures import DataSample

STUDENT = 'configs/reducenet/digits/reducenet8-w16-e4_digits_student.py'


@pytest.fixture
def tool(load_tool: Callable[[str], SimpleNamespace]) -> SimpleNamespace:
    return load_tool('analysis_tools/benchmark_step')


@pytest.fixture
def models(tool: SimpleNamespace) -> dict[str, Any]:
    args = tool.parse_args(['--depth', '8', '--width', '4'])
    return tool.build_variants(tool.network_config(args))


def trained(model: Any) -> list[tuple[str, tuple[int, ...]]]:
    named = model.named_parameters()
    return sorted(
        (name.removeprefix('architecture.'), tuple(param.shape))
        for name, param in named
        if param.requires_grad
    )


def test_all_three_train_the_same_tensors(models: dict[str, Any]) -> None:
    plain = trained(models['plain'])
    assert trained(models['mmrazor']) == plain
    assert trained(models['supernet']) == plain
    assert not [name for name, _ in plain if 'expand' in name]


def test_both_distillations_have_the_same_losses(
    models: dict[str, Any],
) -> None:
    ours, theirs = models['supernet'], models['mmrazor']
    student = {
        key: value
        for key, value in ours.architecture.state_dict().items()
        if '.expand.' not in key
    }
    theirs.architecture.load_state_dict(student)
    inputs = torch.randn(4, 3, 8, 8)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    ours.train()
    theirs.train()  # returns None
    one, other = (
        model(inputs, samples, mode='loss') for model in (ours, theirs)
    )
    assert set(one) == set(other) == {'student.loss', 'distill.loss_kl'}
    for name in one:
        torch.testing.assert_close(one[name], other[name])
    assert one['distill.loss_kl'] > 0


def test_a_step_updates_the_student_only(
    tool: SimpleNamespace, models: dict[str, Any]
) -> None:
    inputs = torch.randn(4, 3, 8, 8)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    model = models['supernet']
    before = {k: v.clone() for k, v in model.named_parameters()}
    tool.training_step(model, inputs, samples)()
    for name, param in model.named_parameters():
        assert torch.equal(param, before[name]) != param.requires_grad


def test_steps_take_turns(tool: SimpleNamespace) -> None:
    calls: list[str] = []
    steps = {name: lambda n=name: calls.append(n) for name in 'abc'}
    times = tool.time_interleaved(steps, 4)
    assert calls == list('abc') * (tool.WARM_UP + 4)
    assert [len(values) for values in times.values()] == [4] * 3


def test_ratios_are_of_the_same_round(tool: SimpleNamespace) -> None:
    times = dict(
        plain=[1.0, 2.0, 4.0],
        mmrazor=[2.0, 4.0, 8.0],
        supernet=[1.0, 4.0, 12.0],
    )
    summary = tool.summarize(times)
    assert summary['ratios']['mmrazor/plain'] == dict(
        median=2.0, quartile1=2.0, quartile3=2.0
    )
    assert summary['ratios']['supernet/mmrazor'] == dict(
        median=1.0, quartile1=0.75, quartile3=1.25
    )
    assert summary['milliseconds']['plain']['median'] == 2000.0


@pytest.mark.parametrize('channels_last', [False, True])
def test_the_tool_prints_and_writes(
    tool: SimpleNamespace, channels_last: bool, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / 'new' / 'step.json'
    arguments = ['--config', STUDENT, '--shape', '1', '8', '8']
    arguments += ['--batch', '4', '--repeats', '2', '--out', str(out)]
    tool.main(arguments + ['--channels-last'] * channels_last)
    result = json.loads(out.read_text())
    assert set(result['milliseconds']) == {'plain', 'mmrazor', 'supernet'}
    settings = result['settings']
    assert settings['channels_last'] is channels_last
    assert settings['shape'] == [1, 8, 8]
    ratio = result['ratios']['supernet/mmrazor']['median']
    assert 0.1 < ratio < 10
    printed = capsys.readouterr().out
    assert 'supernet/mmrazor' in printed
    assert f'{ratio:.3f}' in printed
