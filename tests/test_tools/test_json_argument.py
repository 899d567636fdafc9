# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Where a result cannot be written is said before anything is measured."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reducenet_mm.engine import launch

TOOLS = {
    'analysis_tools/benchmark': ['no.py'],
    'analysis_tools/benchmark_overhead': ['no.py'],
    'analysis_tools/benchmark_step': [],
    'analysis_tools/compare_seeds': ['no', 'none'],
    'analysis_tools/get_flops': ['no.py'],
    'analysis_tools/kill_test': ['no.py'],
    'model_converters/compare_published': ['no.py', 'no.pth'],
}
"""Those that measure, with arguments; what these name is not there."""


@pytest.mark.parametrize('tool', TOOLS)
@pytest.mark.parametrize(
    'file, message',
    [
        ('taken/result.json', 'is a file; give a folder to write to.'),
        ('folder', 'is a folder; give a file to write.'),
    ],
)
def test_a_file_that_cannot_be_written_is_said_first(
    load_tool: Callable[[str], SimpleNamespace],
    tool: str,
    file: str,
    message: str,
    tmp_path: Path,
    capsys: Any,
) -> None:
    (tmp_path / 'taken').write_text('')
    (tmp_path / 'folder').mkdir()
    arguments = [*TOOLS[tool], '--json', str(tmp_path / file)]
    with pytest.raises(SystemExit) as caught:
        load_tool(tool).main(arguments)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    said = captured.err.strip().splitlines()
    assert len(said) == 1 and said[0].endswith(message)
    assert said[0].startswith(f'{Path(tool).name}.py: error: ')


def test_what_goes_wrong_afterwards_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / 'taken').write_text('')
    args = Namespace(json=str(tmp_path / 'taken' / 'result.json'))
    with pytest.raises(SystemExit, match=r'^tool\.py: error: .*taken'):
        launch.write_json(args, 'tool.py', {})
    launch.write_json(Namespace(json=None), 'tool.py', {})
    args.json = str(tmp_path / 'new' / 'result.json')
    launch.write_json(args, 'tool.py', [1])
    assert Path(args.json).read_text() == '[\n  1\n]\n'
