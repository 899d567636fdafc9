# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A full disk: one error, nothing spoilt, and the run goes on afterwards."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from reducenet_mm import compat
from reducenet_mm.engine.checkpointing import newest_checkpoint
from reducenet_mm.experiments.campaign.ledger import Ledger
from reducenet_mm.files import write_json

from .training import same_weights, train_teacher

LEFT = 100_000
"""Bytes that still can be written: enough for logs, not for a checkpoint."""

WIDER = {'model.backbone.base_channels': 8, 'model.head.in_channels': 32}

RECORD = dict(arm='plain', hash='0', status='failed')

Full = Callable[[], AbstractContextManager[None]]


@contextlib.contextmanager
def files_limited() -> Iterator[None]:
    """No file of this process may become larger; Python ignores SIGXFSZ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LEFT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def disk_filled(folder: Path) -> Iterator[None]:
    """Fill the disk up, and make space again."""
    filler = folder / 'filler'
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    filler.write_bytes(bytes(free - LEFT // disk.f_frsize * disk.f_frsize))
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture(params=['disk', 'limit'])
def place(request, tmp_path: Path) -> Iterator[tuple[Path, Full]]:
    """A folder, and what makes its disk full."""
    if request.param == 'limit':
        yield tmp_path, files_limited
        return
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=9m', 'none', str(tmp_path)]
    mounted = sys.platform == 'linux' and subprocess.run(
        mount, capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip('mounting is not allowed')
    try:
        yield tmp_path, lambda: disk_filled(tmp_path)
    finally:
        subprocess.run(['umount', '--lazy', str(tmp_path)], check=True)


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work dir of a training that had enough space."""
    work_dir = tmp_path_factory.mktemp('whole')
    train_teacher(work_dir, 2, **WIDER)
    return work_dir


def test_a_training_ends_and_can_go_on_afterwards(place, whole):
    folder, full = place
    work_dir = folder / 'run'
    work_dir.mkdir()
    shutil.copy(whole / 'epoch_1.pth', work_dir)
    first = (work_dir / 'epoch_1.pth').read_bytes()
    assert len(first) > 2 * LEFT
    with full(), pytest.raises(OSError) as error:
        train_teacher(work_dir, 2, '--resume', **WIDER)
    assert error.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert str(work_dir / 'epoch_2.pth') in str(error.value)
    assert 'could not be written' in str(error.value)
    assert [path.name for path in work_dir.glob('*.pth*')] == ['epoch_1.pth']
    assert (work_dir / 'epoch_1.pth').read_bytes() == first
    assert newest_checkpoint(work_dir) == work_dir / 'epoch_1.pth'

    train_teacher(work_dir, 2, '--resume', **WIDER)
    assert compat.find_damage(work_dir / 'epoch_2.pth') is None
    assert same_weights(work_dir / 'epoch_2.pth', whole / 'epoch_2.pth')


def test_a_report_keeps_what_it_held(place):
    folder, full = place
    report = folder / 'report.json'
    write_json(report, dict(accuracy=1))
    before = report.read_bytes()
    with full():
        with pytest.raises(OSError) as error:
            write_json(report, dict(accuracy=list(range(LEFT))))
    assert error.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert report.read_bytes() == before
    assert list(folder.glob('report*')) == [report]
    write_json(report, dict(accuracy=2))
    assert report.read_bytes() != before


def test_a_campaign_keeps_its_records(place):
    """What was written of one that did not fit is no record."""
    folder, full = place
    ledger = Ledger(folder / 'results.jsonl')
    ledger.append(dict(seed=0, **RECORD))
    whole = ledger.path.read_bytes()
    with full():
        with pytest.raises(OSError) as error:
            ledger.append(dict(seed=1, **RECORD, error=2 * LEFT * 'x'))
        assert ledger.path.read_bytes().startswith(whole + b'{"seed": 1,')
        assert ledger.read() == [dict(seed=0, **RECORD)]
    assert error.value.errno in (errno.ENOSPC, errno.EFBIG)
    message = str(error.value)
    assert f'{ledger.path}: a record could not be added: ' in message
    assert os.strerror(error.value.errno) in message
    assert 'start the same command again' in message
    ledger.append(dict(seed=2, **RECORD))
    assert ledger.path.read_bytes() == whole + whole.replace(b'0', b'2', 1)
