# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What is wrong with a campaign is said before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / 'configs' / 'reducenet' / 'digits'


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--seeds', '7'], '--seeds [7]: not in the campaign'),
        (['--arms', 'none'], "--arms ['none']: not in the campaign"),
        (['--processes', '0'], '`--processes` must be an integer >= 1'),
        (['--cfg-options', 'seed=1'], "unknown keys ['seed']"),
        (['--cfg-options', 'seeds=[]'], '`seeds` must be a list'),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    tmp_path: Path,
    load_tool: Any,
    capsys: Any,
    flags: list[str],
    message: str,
) -> None:
    source, work_dir = tmp_path / 'tiny.py', tmp_path / 'work'
    # Only what is not planned at length: one small arm.
    source.write_text(
        'seeds = [0]\n'
        f"arms = dict(a=dict(config='{DIGITS}/plain8-w16_digits.py'))\n"
    )
    with pytest.raises(SystemExit) as caught:
        load_tool('experiment').main(
            [str(source), '--work-dir', str(work_dir), *flags]
        )
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('experiment.py: error: ')
    assert message in error
    assert not work_dir.exists()


@pytest.mark.parametrize('tool', ['experiment', 'reduce'])
def test_a_work_dir_that_is_a_file_is_refused_before_any_plan(
    tool: str, tmp_path: Path, load_tool: Any, capsys: Any
) -> None:
    config = tmp_path / 'tiny.py'
    one = f"dict(name='a', config='{DIGITS}/plain8-w16_digits.py')"
    text = {
        'reduce': f'stages = [{one}]\n',
        'experiment': 'seeds = [0]\n'
        f"arms = dict(a=dict(config='{DIGITS}/plain8-w16_digits.py'))\n",
    }
    config.write_text(text[tool])
    with pytest.raises(SystemExit) as caught:
        load_tool(tool).main([str(config), '--work-dir', str(config)])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said == (
        f'{tool}.py: error: {str(config)!r} is a file; give a folder to '
        'write to.\n'
    )
