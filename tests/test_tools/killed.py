# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Pipelines in processes that are killed, for real, in a stage's middle."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def kill_once_there(command: Sequence[str], file: Path) -> None:
    """Start a command; SIGKILL it as soon as it has written a file.

    Args:
        command: The program and its arguments.
        file: Such as the first checkpoint of the stage to be killed.

    Raises:
        AssertionError: If the command ends without it, or takes longer than
            a quarter of an hour, also on a busy machine. Nothing is left
            running then either.
    """
    process = subprocess.Popen(
        command,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    end = time.monotonic() + 900
    try:
        while not file.exists():
            assert process.poll() is None, f'ended without {file}'
            assert time.monotonic() < end, f'no {file} yet'
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
