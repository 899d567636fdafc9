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

from reducenet_mm.experiments.benchmarks import (
    step_cost,
    step_models,
    timing,
)
from reducenet_mm.models.supernet import (
    is_branch_key,
    is_lora_key,
    set_scaler,
    student_gates,
)
from tests.test_export.hand_written import operations

STUDENT = 'configs/reducenet/digits/reducenet8-w16-e4_digits_student.py'


@pytest.fixture
def tool(load_tool: Callable[[str], SimpleNamespace]) -> SimpleNamespace:
    return load_tool('analysis_tools/benchmark_step')


@pytest.fixture
def variants(tool: SimpleNamespace) -> tuple[dict[str, Any], dict[str, Any]]:
    args = tool.parse_args(['--depth', '8', '--width', '4'])
    return tool.build_models(tool.network_config(args))


@pytest.fixture
def models(variants: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return variants[0]


def batch() -> tuple[torch.Tensor, list[DataSample]]:
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    return torch.randn(4, 3, 8, 8), samples


def trained(model: Any) -> list[tuple[str, tuple[int, ...]]]:
    named = model.named_parameters()
    return sorted(
        (name.removeprefix('architecture.'), tuple(param.shape))
        for name, param in named
        if param.requires_grad
    )


def test_images_have_the_channels_of_the_network(
    tool: SimpleNamespace, models: dict[str, Any]
) -> None:
    digits = tool.build_models(
        tool.network_config(tool.parse_args(['--config', STUDENT]))
    )[0]
    assert tool.input_shape(None, digits['plain']) == [1, 32, 32]
    assert tool.input_shape(None, models['plain']) == [3, 32, 32]
    assert tool.input_shape([1, 8, 8], digits['plain']) == [1, 8, 8]
    with pytest.raises(ValueError, match=r'--shape 3 8 8: .* of 1 channel'):
        tool.input_shape([3, 8, 8], digits['plain'])


def test_four_train_all_of_the_same_student(models: dict[str, Any]) -> None:
    plain = trained(models['plain'])
    for name in ('mmrazor', 'supernet', 'annealed'):
        assert trained(models[name]) == plain, name
    assert not [name for name, _ in plain if 'expand' in name]


def test_in_place_both_networks_train(models: dict[str, Any]) -> None:
    both = trained(models['inplace'])
    branches = [item for item in both if is_branch_key(item[0])]
    assert branches
    assert [item for item in both if item not in branches] == trained(
        models['plain']
    )
    inputs, samples = batch()
    losses = models['inplace'].train().loss(inputs, samples)
    assert set(losses) == {'teacher.loss', 'student.loss', 'distill.loss_kl'}


def test_annealed_students_compute_half_of_the_branch(
    models: dict[str, Any],
) -> None:
    network, inputs = models['annealed'].architecture, batch()[0]
    models['supernet'].eval()
    network.eval()
    halfway = network(inputs)
    assert not torch.equal(halfway, models['supernet'].architecture(inputs))
    set_scaler(models['supernet'].architecture, 0.5)
    assert torch.equal(halfway, models['supernet'].architecture(inputs))
    # A step leaves it there, although the teacher is asked meanwhile.
    branches = {
        key: value.clone()
        for key, value in network.state_dict().items()
        if is_branch_key(key)
    }
    step_cost.TrainingStep(models['annealed'], *batch())()
    gates = student_gates(network, 'expand').values()
    assert {gate.scaler for gate in gates} == {0.5}
    after = network.state_dict()
    assert branches
    for key, value in branches.items():
        assert torch.equal(after[key], value), key


def test_the_stages_train_what_their_presets_say(
    models: dict[str, Any],
) -> None:
    convs = ('pair.conv1.weight', 'pair.conv2.weight')
    norms = ('pair.norm1.bias', 'pair.norm1.weight')
    kinds = dict(
        weight_lora=('down', 'up'),
        half_rank_lora=('down', 'up'),
        conv_lora=convs + norms,
    )
    for kind, ends in kinds.items():
        lora = [name for name, _ in trained(models[kind])]
        assert lora and all(map(is_lora_key, lora))
        assert {name.partition('.lora.')[2] for name in lora} == set(ends)
    assert trained(models['new_conv']) == [
        (f'backbone.layer{i}.0.conv1.{key}', shape)
        for i, (out, inputs) in enumerate([(4, 4), (8, 4), (16, 8)], 1)
        for key, shape in (('bias', (out,)), ('weight', (out, inputs, 3, 3)))
    ]
    plain = {name for name, _ in trained(models['plain_teacher'])}
    assert plain == {name for name, _ in trained(models['plain'])}


def test_teachers_of_a_block_are_the_same(
    variants: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    models, teachers = variants
    inputs, _ = batch()
    assert set(teachers) == {'plain_teacher'}
    wanted = teachers['plain_teacher'].eval()(inputs)
    torch.testing.assert_close(models['new_conv'].teacher(inputs), wanted)
    one = models['supernet'].teacher(inputs)
    for name in ('annealed', 'weight_lora', 'half_rank_lora', 'conv_lora'):
        assert torch.equal(models[name].teacher(inputs), one)
    assert not torch.allclose(one, wanted)


def test_a_block_without_lora_has_no_such_case(tool: SimpleNamespace) -> None:
    args = tool.parse_args(['--depth', '8', '--width', '4'])
    cfg = tool.network_config(args)
    cfg.model.backbone.update(block='sequential', student_conv='merged')
    models, _ = tool.build_models(cfg)
    assert not set(step_models.LORAS) & set(models)
    assert {'annealed', 'inplace', 'new_conv'} < set(models)
    gates = student_gates(models['annealed'].architecture, 'lambda_relu')
    assert {gate.scaler for gate in gates.values()} == {0.5}
    rounds = {name: [1.0, 2.0] for name in models}
    ratios = timing.summarize(rounds, tool.RATIOS)['ratios']
    assert 'new_conv/plain_teacher' in ratios
    assert 'weight_lora/supernet' not in ratios


@pytest.mark.parametrize('setting', ['with_cp', 'norm_eval'])
def test_what_cannot_be_trained_in_place_has_no_such_case(
    tool: SimpleNamespace, setting: str
) -> None:
    args = tool.parse_args(['--depth', '8', '--width', '4'])
    cfg = tool.network_config(args)
    cfg.model.backbone[setting] = True
    models, _ = tool.build_models(cfg)
    assert 'inplace' not in models
    assert {'supernet', 'annealed', 'new_conv'} < set(models)


def test_a_grafted_backbone_is_timed_beside_the_stock_network(
    tool: SimpleNamespace,
) -> None:
    args = tool.parse_args(['--depth', '8', '--width', '4'])
    cfg = tool.network_config(args)
    stock = dict(type='MobileNetV2', widen_factor=0.1, out_indices=(2,))
    cfg.model.head.in_channels = 8
    cfg.model.backbone = dict(
        type='GraftedBackbone', backbone=stock, targets='depthwise'
    )
    models, teachers = tool.build_models(cfg)
    scalers = {'scaler_1', 'scaler_0', 'ungrafted'}
    distilled = {'plain', 'mmrazor', 'supernet', 'annealed', 'inplace'}
    distilled |= {'weight_lora', 'half_rank_lora', 'conv_lora'}
    assert set(models) == scalers | distilled and not teachers
    inputs = batch()[0]
    plain = operations(models['plain'].eval(), inputs)[0]
    graphs = {
        name: operations(models[name].eval(), inputs)[0] for name in scalers
    }
    assert graphs['ungrafted'] == graphs['scaler_0'] == plain
    assert len(graphs['scaler_1']) > len(plain)
    for name in scalers:
        model = models[name]
        before = {k: v.clone() for k, v in model.named_parameters()}
        step_cost.TrainingStep(model, *batch())()
        changed = {
            key
            for key, param in model.named_parameters()
            if not torch.equal(param, before[key])
        }
        assert any(map(is_branch_key, changed)) == (name == 'scaler_1')
        assert 'backbone.conv1.conv.weight' in changed
    ratios = {f'{name}/plain' for name in scalers}
    rounds = {name: [1.0, 2.0] for name in models}
    assert ratios < set(timing.summarize(rounds, tool.RATIOS)['ratios'])


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
    inputs, samples = batch()
    ours.train()
    theirs.train()  # returns None
    one, other = (
        model(inputs, samples, mode='loss') for model in (ours, theirs)
    )
    assert set(one) == set(other) == {'student.loss', 'distill.loss_kl'}
    for name in one:
        torch.testing.assert_close(one[name], other[name])
    assert one['distill.loss_kl'] > 0


def test_a_step_updates_what_trains_only(models: dict[str, Any]) -> None:
    stages = ('supernet', 'annealed', 'new_conv', 'inplace')
    for name in (*stages, *step_models.LORAS):
        model = models[name]
        before = {k: v.clone() for k, v in model.named_parameters()}
        step_cost.TrainingStep(model, *batch())()
        for key, param in model.named_parameters():
            changed = not torch.equal(param, before[key])
            last = key.endswith(('lora.up', 'pair.conv2.weight'))
            waits = is_lora_key(key) and not last  # for that to leave zero
            assert changed == (param.requires_grad and not waits), (name, key)


def test_a_teacher_beside_a_model_is_computed_and_left_alone(
    variants: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    models, teachers = variants
    teacher = teachers['plain_teacher']
    calls: list[bool] = []
    teacher.backbone.register_forward_hook(
        lambda *_: calls.append(torch.is_grad_enabled())
    )
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    step_cost.TrainingStep(models['plain_teacher'], *batch(), teacher)()
    assert calls == [False]
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_ratios_are_of_the_same_round(tool: SimpleNamespace) -> None:
    times = dict(
        plain=[1.0, 2.0, 4.0],
        mmrazor=[2.0, 4.0, 8.0],
        supernet=[1.0, 4.0, 12.0],
    )
    summary = timing.summarize(times, tool.RATIOS)
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
    names = {'plain', 'mmrazor', 'supernet', 'annealed', 'inplace'}
    names |= {'weight_lora', 'half_rank_lora', 'conv_lora'}
    names |= {'plain_teacher', 'new_conv'}
    assert set(result['milliseconds']) == set(result['memory']) == names
    assert set(result['targets']) < set(result['ratios'])
    assert 'torch.profiler' in result['memory_measure']
    for memory in result['memory'].values():
        assert 0 < memory['resident'] < memory['peak']
    peaks = {name: value['peak'] for name, value in result['memory'].items()}
    assert peaks['new_conv'] < peaks['plain_teacher']
    assert peaks['weight_lora'] < peaks['supernet']
    memory = result['memory']
    half = memory['half_rank_lora']['resident']
    assert half < memory['weight_lora']['resident']
    assert result['code']['packages']['mmrazor'] == '1.0.0'
    settings = result['settings']
    assert settings['channels_last'] is channels_last
    assert settings['shape'] == [1, 8, 8]
    ratio = result['ratios']['supernet/mmrazor']['median']
    assert 0.1 < ratio < 10
    printed = capsys.readouterr().out
    assert 'supernet/mmrazor' in printed
    assert f'{ratio:.3f}' in printed
    assert '<= 1.05' in printed and '<= 1.10' in printed


def test_a_layout_that_pytorch_cannot_train_is_refused(
    tool: SimpleNamespace, capsys: pytest.CaptureFixture
) -> None:
    config = 'configs/experiments/fashion-mnist-few/teacher.py'
    argv = ['--config', config, '--shape', '1', '8', '8', '--batch', '2']
    with pytest.raises(SystemExit) as stopped:
        tool.main([*argv, '--channels-last'])
    assert stopped.value.code == 2
    assert 'PyTorch corrupts its memory' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('--width 0', 'argument --width: must be an integer of at least 1'),
        ('--depth 9', 'model.backbone: depth must be 18, 34 or 6n+2'),
        ('--shape 3 0 8', 'argument --shape: must be'),
        (f'--config {STUDENT} --width 8', 'Leave them out beside it'),
    ],
)
def test_wrong_input_is_one_line(
    tool: SimpleNamespace,
    capsys: pytest.CaptureFixture,
    arguments: str,
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stopped:
        tool.main(arguments.split())
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
