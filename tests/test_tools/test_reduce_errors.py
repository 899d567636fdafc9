# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What goes wrong in a pipeline is said, and nothing is half-done."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / 'configs' / 'pipelines' / 'digits.py'


def command(work_dir: Path, *options: str) -> list[str]:
    tool = str(ROOT / 'tools' / 'reduce.py')
    text = [sys.executable, tool, str(PIPELINE), '--work-dir', str(work_dir)]
    return [*text, '--cfg-options', *options]


def test_a_failing_stage_stops_the_pipeline(
    tmp_path: Path, process: Callable
) -> None:
    wrong = 'stages.0.cfg_options.train_dataloader.num_workers=-1'
    done = process(*command(tmp_path / 'work', wrong))
    assert done.returncode == 1
    assert 'exit status' in done.stderr
    assert 'num_workers option should be non-negative' in done.stderr
    assert 'console.log' in done.stderr
    assert 'student: started' not in done.stdout
    assert not (tmp_path / 'work' / 'runs' / 'teacher' / 'done.json').exists()


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('control=1', "Did you mean 'controls'?"),
        ('other=1', "unknown keys ['other']"),
        ('stages.0.epochs=0', '`stages[0].epochs` must be'),
        (
            'stages.0.cfg_options.model.backbone.depht=8',
            'model.backbone.depht',
        ),
        ('controls.1.restart_at=nobody', "got 'nobody'"),
        (
            'stages.1.cfg_options.default_hooks.checkpoint.by_epoch=False',
            'default_hooks.checkpoint=dict(by_epoch=False): a run is what',
        ),
        (
            'stages.0.cfg_options.default_hooks.checkpoint.save_last=False',
            'default_hooks.checkpoint=dict(save_last=False): a run is what',
        ),
        *(
            (
                f'{run}.cfg_options.default_hooks.stop.type=EarlyStoppingHook',
                'default_hooks.stop ends a training early',
            )
            for run in ('stages.0', 'controls.0')
        ),
        *(
            (
                f'{run}.cfg_options.default_hooks.checkpoint.out_dir=else',
                "checkpoint.out_dir='else'",
            )
            for run in ('stages.0', 'controls.0')
        ),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    tmp_path: Path, load_tool: Any, capsys: Any, option: str, message: str
) -> None:
    work_dir = tmp_path / 'work'
    arguments = command(work_dir, option)[2:]
    with pytest.raises(SystemExit) as caught:
        load_tool('reduce').main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('reduce.py: error: ')
    assert message in error
    assert not work_dir.exists()


def test_a_path_that_options_cannot_carry_is_refused_at_once(
    tmp_path: Path, load_tool: Any, capsys: Any
) -> None:
    arguments = command(tmp_path / 'my,work', 'seed=0')[2:]
    with pytest.raises(SystemExit):
        load_tool('reduce').main(arguments)
    assert 'must not hold commas' in capsys.readouterr().err
    assert not (tmp_path / 'my,work').exists()
