# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A killed data-loader worker ends the training, which can go on later."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from reducenet_mm.engine.checkpointing import newest_checkpoint

from .training import (
    CONFIG,
    MODEL,
    ROOT,
    TRAIN_TOOL,
    arguments_of,
    run_tool,
    same_weights,
    settings,
)

WORKERS_KEY = 'train_dataloader.num_workers'
WORKERS = {WORKERS_KEY: 2, 'train_dataloader.persistent_workers': True}
SCHEDULE = {'param_scheduler.periods': [1000]}
"""Wherever it is ended, the learning rate is the same until then."""


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f'waited for {seconds} s'
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return list(
        map(int, Path(f'/proc/{pid}/task/{pid}/children').read_text().split())
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sum up as the killed process did: the last bits depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_a_killed_worker_ends_the_training_within_seconds(
    tmp_path, one_thread
):
    """Resumed, it ends as one with no workers that nothing happened to."""
    work_dir = tmp_path / 'run'
    command = [sys.executable, TRAIN_TOOL, CONFIG, '--work-dir', work_dir]
    options = {**settings(1000), **MODEL, **SCHEDULE, **WORKERS}
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
    options = {**settings(epoch + 1), **MODEL, **SCHEDULE}
    train = [TRAIN_TOOL, CONFIG, '--work-dir']
    run_tool(*train, work_dir, '--resume', **options, **{WORKERS_KEY: 2})
    run_tool(*train, tmp_path / 'whole', **options)
    name = f'epoch_{epoch + 1}.pth'
    assert same_weights(work_dir / name, tmp_path / 'whole' / name)
    assert not same_weights(work_dir / name, newest)
