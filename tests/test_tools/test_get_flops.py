# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The counting tool from the command line; see also test_complexity.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

CIFAR = 'configs/reducenet/cifar10/reducenet20-w16-e1_cifar10_{}.py'
KEYS = ['params', 'multiply_adds', 'mmengine_flops']


@pytest.fixture
def tool(load_tool: Callable[[str], SimpleNamespace]) -> SimpleNamespace:
    return load_tool('analysis_tools/get_flops')


def test_the_published_network_from_a_distillation_config(
    tool: SimpleNamespace, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / 'new' / 'flops.json'
    tool.main([CIFAR.format('student'), '--json', str(out)])
    result = json.loads(out.read_text())
    assert result['input_shape'] == [3, 32, 32]
    totals = {
        name: [one['total'][key] for key in KEYS]
        for name, one in result['networks'].items()
    }
    assert totals == dict(
        teacher=[412_058, 62_046_848, 62_796_416],
        student=[272_474, 40_813_184, 41_218_688],
        deployed=[271_690, 40_813_184, 40_817_280],
    )
    for one in result['networks'].values():
        for key in KEYS:
            parts = [part[key] for part in one['parts'].values()]
            assert sum(parts) == one['total'][key]
    printed = capsys.readouterr().out
    for totals_of_one in totals.values():
        for value in totals_of_one:
            assert f'{value:,}' in printed
    for part in result['networks']['teacher']['parts']:
        assert part in printed


def test_both_conventions_are_named(
    tool: SimpleNamespace,
    config: SimpleNamespace,
    tmp_path: Path,
    capsys: Any,
) -> None:
    out = tmp_path / 'flops.json'
    tool.main([config.teacher, '--shape', '8', '--json', str(out)])
    counts = json.loads(out.read_text())['counts']
    assert list(counts) == KEYS
    assert 'convolutions and linear layers' in counts['multiply_adds']
    assert 'norm' in counts['mmengine_flops']
    printed = capsys.readouterr().out
    for key in KEYS:
        assert f'{key}: ' in printed
    assert "MMEngine's count" in printed


def test_shape_and_options(
    tool: SimpleNamespace, config: SimpleNamespace
) -> None:
    width = ['--cfg-options', 'model.backbone.base_channels=4']
    width += ['model.head.in_channels=16']
    args = tool.parse_args([config.teacher, '--shape', '8', '4', *width])
    result = tool.count(args)
    assert result['input_shape'] == [1, 8, 4]
    stem = result['networks']['deployed']['parts']['stem']
    assert stem == dict(
        params=4 * 9 + 4, multiply_adds=32 * 36, mmengine_flops=32 * 36
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['no.py'], "config file 'no.py' is not there"),
        (['--shape', '1', '2', '3'], 'Give --shape H [W]'),
        (['--cfg-options', 'model.backbone.depth=21'], 'depth'),
        (
            ['--cfg-options', 'model.head.in_channels=3'],
            'model.head: an image of shape (1, 8, 8) does not get through '
            'model.head.fc, which is Linear(in_features=3',
        ),
    ],
)
def test_wrong_input_is_one_line(
    tool: SimpleNamespace,
    config: SimpleNamespace,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: Any,
) -> None:
    if arguments[0].startswith('--'):
        arguments = [config.teacher, *arguments]
    out = tmp_path / 'new' / 'flops.json'
    with pytest.raises(SystemExit) as caught:
        tool.main([*arguments, '--json', str(out)])
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('get_flops.py: error: ') and message in error
    assert not out.parent.exists()
