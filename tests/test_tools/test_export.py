# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The export tool on real runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch


@pytest.fixture
def export(load_tool: Callable[[str], SimpleNamespace]) -> Callable:
    return load_tool('export').main


@pytest.mark.parametrize('stage', ['teacher', 'student'])
def test_both_kinds_of_run_are_exported(
    stage: str,
    request: pytest.FixtureRequest,
    config: SimpleNamespace,
    export: Callable,
    tmp_path: Path,
    capsys: Any,
) -> None:
    run = request.getfixturevalue(f'{stage}_run')
    checkpoint = run / f'epoch_{4 if stage == "teacher" else 2}.pth'
    arguments = [getattr(config, stage), str(checkpoint)]
    options = getattr(config, f'{stage}_model')
    out = tmp_path / 'out'
    export([*arguments, '--out', str(out), '--cfg-options', *options])
    assert sorted(path.name for path in out.iterdir()) == [
        'student.pth',
        'student.py',
    ]
    saved = torch.load(out / 'student.pth', weights_only=True)
    trained = torch.load(checkpoint, weights_only=False)['state_dict']
    prefix = '' if stage == 'teacher' else 'architecture.'
    for key, value in saved['state_dict'].items():
        assert torch.equal(value, trained[prefix + key])
    assert saved['meta']['provenance']['checkpoint'] == checkpoint.name
    printed = capsys.readouterr().out
    assert '16 validation images' in printed


def test_the_wrong_config_is_one_line_and_nothing_is_written(
    teacher_run: Path,
    config: SimpleNamespace,
    export: Callable,
    tmp_path: Path,
    capsys: Any,
) -> None:
    checkpoint = str(teacher_run / 'epoch_4.pth')  # narrower than the config
    with pytest.raises(SystemExit) as caught:
        export([config.teacher, checkpoint, '--out', str(tmp_path / 'out')])
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('export.py: error: checkpoint ')
    assert 'base_channels' in error
    assert not (tmp_path / 'out').exists()
