# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A killed data-loader worker ends the training, which can go on later."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reducenet_mm.engine.checkpointing import newest_checkpoint

from .training import (
    CONFIG,
    MODEL,
    ROOT,
    TRAIN_TOOL,
    arguments_of,
    run_tool,
    settings,
    weights,
)

WORKERS_KEY = 'train_dataloader.num_workers'
WORKERS = {WORKERS_KEY: 2, 'train_dataloader.persistent_workers': True}


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f'waited for {seconds} s'
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return list(
        map(int, Path(f'/proc/{pid}/task/{pid}/children').read_text().split())
    )


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_a_killed_worker_ends_the_training_within_seconds(tmp_path):
    work_dir = tmp_path / 'run'
    command = [sys.executable, TRAIN_TOOL, CONFIG, '--work-dir', work_dir]
    options = {**settings(1000), **MODEL, **WORKERS}
    environment = {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'PYTHONPATH': str(ROOT),
    }
    with open(tmp_path / 'errors', 'w') as errors:
        training = subprocess.Popen(
            [*map(str, command), *arguments_of(options)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    try:
        wait_for(
            lambda: (
                (work_dir / 'epoch_2.pth').exists()
                or training.poll() is not None
            )
        )
        workers = children(training.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        assert training.wait(timeout=30) == 1
    finally:
        training.kill()
        training.wait()
    last_line = (tmp_path / 'errors').read_text().splitlines()[-1]
    assert re.search(
        rf'RuntimeError: DataLoader worker \(pid.* {workers[0]}\) '
        '(is killed by signal: Killed|exited unexpectedly)',
        last_line,
    )
    wait_for(lambda: not Path(f'/proc/{workers[1]}').exists(), 10)

    newest = newest_checkpoint(work_dir)
    epoch = int(newest.stem.rpartition('_')[2])
    assert epoch >= 2
    options = {**settings(epoch + 1), **MODEL, WORKERS_KEY: 2}
    run_tool(TRAIN_TOOL, CONFIG, '--work-dir', work_dir, '--resume', **options)
    resumed = weights(work_dir / f'epoch_{epoch + 1}.pth')
    assert all(value.isfinite().all() for value in resumed.values())
