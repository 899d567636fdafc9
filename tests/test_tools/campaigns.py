# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Processes of tools/experiment.py, and what they leave in a work dir."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'experiment.py'
DIGITS = ROOT / 'configs' / 'reducenet' / 'digits'


def start(
    source: Path, work_dir: Path, *flags: str, log: str = 'work.log'
) -> subprocess.Popen:
    """Start the tool as the leader of a process group.

    Its output goes to ``log``, beside the work dir.
    """
    with open(work_dir.with_name(log), 'a') as output:
        return subprocess.Popen(
            [sys.executable, TOOL, source, '--work-dir', work_dir, *flags],
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for(condition: Callable[[], Any], process: subprocess.Popen) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, 'ended too early'
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.02)


def records(work_dir: Path) -> list[dict[str, Any]]:
    path = work_dir / 'results.jsonl'
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def sessions(work_dir: Path) -> dict[tuple[str, int], int]:
    """Return how often the Runner was started for each cell."""
    return {
        (folder.parent.name, int(folder.name[4:])): len(
            list(folder.glob('2*_*'))
        )
        for folder in work_dir.glob('runs/*/seed*')
    }


def cells(
    found: Sequence[dict[str, Any]], status: str
) -> list[tuple[str, int]]:
    return [(r['arm'], r['seed']) for r in found if r['status'] == status]
