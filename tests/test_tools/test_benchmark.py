# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The benchmark from the command line; its parts are tested elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

NARROW = [
    'model.architecture.backbone.base_channels=4',
    'model.architecture.head.in_channels=16',
]


@pytest.fixture
def tool(load_tool: Callable[[str], SimpleNamespace]) -> SimpleNamespace:
    return load_tool('analysis_tools/benchmark')


def test_the_tool_prints_and_writes(
    tool: SimpleNamespace,
    config: SimpleNamespace,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    out = tmp_path / 'new' / 'speed.json'
    arguments = [config.student, '--rounds', '2', '--batch-sizes', '1', '3']
    arguments += ['--modes', 'eager', 'onnx', 'channels_last']
    arguments += ['--json', str(out), '--threads', '1']
    tool.main([*arguments, '--cfg-options', *NARROW])
    result = json.loads(out.read_text())
    settings = result['settings']
    assert settings['threads'] == 1 and settings['rounds'] == 2
    assert settings['input_shape'] == [1, 8, 8]
    assert list(result['results']) == ['eager', 'channels_last']
    assert list(result['skipped']) == ['onnx']
    names = ['teacher', 'student', 'deployed', 'plain']
    printed = capsys.readouterr().out
    for batches in result['results'].values():
        assert list(batches) == ['1', '3']
        for batch, one in batches.items():
            assert list(one['milliseconds']) == names
            for name in names:
                # Of two samples the median is the mean.
                time = one['milliseconds'][name]
                half = 2 * (time['median'] - time['quartile1'])
                times = (time['median'] - half, time['median'] + half)
                rates = [1e3 * int(batch) / value for value in times]
                rate = one['images_per_second'][name]['median']
                assert rate == pytest.approx(sum(rates) / 2)
            ratio = one['ratios']['deployed/plain']['median']
            assert f'{ratio:.3f}' in printed
    assert 'onnx was skipped: ' in printed and 'pip install' in printed
    assert '1 threads' in printed
    assert 'eager: median and quartiles' in printed


def test_a_grafted_backbone_is_timed_beside_the_stock_network(
    tool: SimpleNamespace, config: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / 'grafted.py'
    stock = dict(type='ResNet', depth=18, base_channels=4, stem_channels=4)
    backbone = dict(
        _delete_=True,
        type='GraftedBackbone',
        backbone=dict(stock, in_channels=1),
        targets='block_first_conv',
    )
    model = dict(backbone=backbone, head=dict(in_channels=32))
    path.write_text(f'_base_ = {config.teacher!r}\nmodel = {model!r}\n')
    arguments = [str(path), '--rounds', '2', '--batch-sizes', '2']
    args = tool.parse_args([*arguments, '--modes', 'eager'])
    result = tool.benchmark(args)
    assert result['settings']['plain'] == 'ResNet'
    times = result['results']['eager']['2']
    assert list(times['milliseconds']) == [
        'teacher',
        'student',
        'deployed',
        'plain',
    ]
    assert 'deployed/plain' in times['ratios']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['no.py'], "config file 'no.py' is not there"),
        (['--rounds', '1'], '--rounds must be at least 2'),
        (['--batch-sizes', '0'], '--batch-sizes must be at least 1'),
        (
            ['--threads', '0'],
            '--threads: must be an integer of at least 1',
        ),
        (['--modes', 'fast'], "invalid choice: 'fast'"),
        (
            ['configs/reducenet/digits/plain8-w16_digits.py'],
            'only a network with a ReduceNet backbone',
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
    out = tmp_path / 'new' / 'speed.json'
    with pytest.raises(SystemExit) as caught:
        tool.main([*arguments, '--json', str(out)])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not out.parent.exists()
