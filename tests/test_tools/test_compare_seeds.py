# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""tools/analysis_tools/compare_seeds.py on real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reducenet_mm.experiments.pipeline.seed_comparison import (
    compare_seeds,
    seeds_markdown,
)
from tests.test_experiments.test_seed_comparison import reports


def test_the_tool_prints_and_writes(
    load_tool: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    paths = []
    for report in reports(5):
        folder = tmp_path / str(report['seed'])
        folder.mkdir()
        (folder / 'report.json').write_text(json.dumps(report))
        paths.append(str(folder))
    out = tmp_path / 'seeds.json'
    tool = load_tool('analysis_tools/compare_seeds')
    tool.main([*paths, '--json', str(out)])
    content = json.loads(out.read_text())
    assert content == compare_seeds(reports())
    assert capsys.readouterr().out == f'{seeds_markdown(content)}\n'
    for wrong, message in (
        (paths[:1], 'two reports or more are compared, got 1'),
        ([*paths, str(tmp_path)], 'report.json is not there'),
        ([*paths, str(out)], 'seeds.json is no whole report.json'),
    ):
        with pytest.raises(SystemExit):
            tool.main(wrong)
        assert message in capsys.readouterr().err
