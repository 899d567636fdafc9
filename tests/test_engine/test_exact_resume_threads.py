# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A run that goes on with another number of threads says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.test_engine.test_exact_resume import train

WARNING = 'Not resumed exactly: the checkpoint was written with'


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def text(work_dir: Path) -> str:
    return '\n'.join(log.read_text() for log in work_dir.glob('*/*.log'))


def test_another_number_of_threads_is_warned_of(
    threads: int, tmp_path: Path
) -> None:
    options = {'train_cfg.max_epochs': 2, 'param_scheduler.periods': [2]}
    train(tmp_path / 'whole', None, options)
    saved = tmp_path / 'whole' / 'epoch_1.pth'
    train(tmp_path / 'same', saved, options)
    torch.set_num_threads(threads + 1)
    train(tmp_path / 'other', saved, options)
    assert WARNING not in text(tmp_path / 'whole') + text(tmp_path / 'same')
    said = f'{WARNING} {threads} threads, and this process computes with '
    assert f'{said}{threads + 1}. Set OMP_NUM_THREADS={threads}.' in text(
        tmp_path / 'other'
    )
