# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The overhead benchmark from the command line; see also test_overhead.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

OPTIONS = [
    'model.backbone.base_channels=4',
    'model.head.in_channels=16',
    'train_dataloader.dataset.indices=16',
    'train_dataloader.batch_size=8',
]


@pytest.fixture
def tool(load_tool: Callable[[str], SimpleNamespace]) -> SimpleNamespace:
    return load_tool('analysis_tools/benchmark_overhead')


def test_the_tool_prints_writes_and_tidies_up(
    tool: SimpleNamespace, config: SimpleNamespace, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / 'new' / 'overhead.json'
    arguments = [config.teacher, '--rounds', '2', '--out', str(out)]
    arguments += ['--work-dir', str(tmp_path), '--cfg-options', *OPTIONS]
    tool.main(arguments)
    assert [path.name for path in tmp_path.iterdir()] == ['new']
    result = json.loads(out.read_text())
    assert result['settings']['config'] == config.teacher
    assert result['rounds'] == 2 and result['images_per_epoch'] == 16
    percent = result['percent_of_epoch']
    assert list(percent) == [
        'seeding, wall',
        'seeding, cpu',
        'seeding, cpu of loading',
        'atomic writing',
        'both, as configured',
    ]
    printed = capsys.readouterr().out
    for value in percent.values():
        assert f'{value["median"]:.2f}' in printed


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['no.py'], "config file 'no.py' is not there"),
        (['--rounds', '1'], '--rounds must be at least 2'),
        (
            ['--threads', '0'],
            '--threads: must be an integer of at least 1',
        ),
        (['--work-dir', __file__], 'is a file; give a folder'),
        (
            ['--cfg-options', 'train_dataloader.sampler.type=DefaultSampler'],
            "sampler.type='DefaultSampler'",
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
    if '--work-dir' not in arguments:
        arguments += ['--work-dir', str(tmp_path / 'new')]
    with pytest.raises(SystemExit) as caught:
        tool.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()
