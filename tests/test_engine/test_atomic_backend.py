# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Checkpoints outlive kills and full disks, and the newest good one is found.

Kills are real ones, of a process that writes checkpoints one after another.
"""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.runner.checkpoint import save_checkpoint

from reducenet_mm.engine.checkpointing import (
    AtomicBackend,
    newest_checkpoint,
)
from reducenet_mm.files import remove_leftovers

ATOMIC = dict(backend='atomic')
WRITER = """
import sys, torch
from mmengine.runner.checkpoint import save_checkpoint
folder, backend = sys.argv[1:]
if backend == 'atomic':
    import reducenet_mm
for epoch in range(1, 1000):
    weights = torch.full((1 << 23,), float(epoch))  # 32 MiB
    path = f'{folder}/epoch_{epoch}.pth'
    save_checkpoint(dict(state_dict=dict(w=weights)), path,
                    backend_args=dict(backend=backend))
"""


def save(folder: Path, name: str, value: float = 1.0) -> Path:
    weights = dict(w=torch.full((100,), value))
    path = folder / name
    save_checkpoint(dict(state_dict=weights), str(path), backend_args=ATOMIC)
    return path


def kill_in_write(root: Path, backend: str, begun: str) -> Path:
    """SIGKILL a process as soon as it writes to a file named ``begun``*.

    Returns:
        The folder of checkpoints. On a busy machine the kill may come when
        the file is complete; then once more, in another folder.
    """
    for attempt in range(5):
        folder = root / str(attempt)
        folder.mkdir()
        command = [sys.executable, '-W', 'ignore', '-c', WRITER]
        process = subprocess.Popen([*command, folder, backend])
        try:
            end = time.monotonic() + 120
            while not any(n.startswith(begun) for n in os.listdir(folder)):
                assert process.poll() is None and time.monotonic() < end
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        written = [path.stat().st_size for path in folder.glob(f'{begun}*')]
        if written and (backend == 'atomic' or written[0] < 1 << 25):
            return folder
    raise AssertionError('no kill came inside a write')


def test_a_kill_inside_a_write_leaves_the_checkpoint_before_it(
    tmp_path: Path,
) -> None:
    folder = kill_in_write(tmp_path, 'atomic', 'epoch_3.pth.')
    names = sorted(os.listdir(folder))
    assert names[:2] == ['epoch_1.pth', 'epoch_2.pth']
    (leftover,) = names[2:]
    assert leftover.endswith('.partial')
    newest = newest_checkpoint(folder)
    assert newest == folder / 'epoch_2.pth'
    assert torch.load(newest)['state_dict']['w'].eq(2).all()
    assert remove_leftovers(folder) == [folder / leftover]
    assert sorted(os.listdir(folder)) == names[:2]


def test_the_stock_backend_is_cut_off_and_passed_over(tmp_path: Path) -> None:
    folder = kill_in_write(tmp_path, 'local', 'epoch_3.pth')
    with pytest.raises((RuntimeError, EOFError)):
        torch.load(folder / 'epoch_3.pth')
    said: list[str] = []
    assert newest_checkpoint(folder, said.append) == folder / 'epoch_2.pth'
    (message,) = said
    assert 'epoch_3.pth is damaged' in message


def test_it_writes_what_it_is_given(tmp_path: Path) -> None:
    backend = get_file_backend(backend_args=ATOMIC)
    assert isinstance(backend, AtomicBackend)
    path = tmp_path / 'new' / 'file'
    backend.put(b'old and longer', path)
    with open(path, 'rb') as reader:
        backend.put(b'new', path)
        assert reader.read() == b'old and longer'  # replaced, not rewritten
    assert path.read_bytes() == b'new'
    backend.put_text('grün', str(path), encoding='latin-1')
    assert path.read_bytes() == b'gr\xfcn'
    assert os.listdir(path.parent) == ['file']


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """As the system refuses a full disk, it refuses files above a limit."""
    backend = AtomicBackend()
    path = tmp_path / 'epoch_1.pth'
    backend.put(b'old', path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(OSError, match='could not be written') as caught:
            backend.put(bytes(1 << 20), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = str(caught.value)
    assert f'{path} (1,048,576 bytes)' in message
    assert 'File too large' in message
    assert 'written before it are intact' in message
    assert os.listdir(tmp_path) == ['epoch_1.pth']
    assert path.read_bytes() == b'old'


def test_content_is_synced_before_it_takes_the_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut could leave a name without its content."""
    done: list[tuple[str, int, int]] = []

    def note(what: str, status: os.stat_result) -> None:
        done.append((what, status.st_ino, status.st_size))

    def fsync(descriptor: int, real=os.fsync) -> None:
        note('sync', os.fstat(descriptor))
        real(descriptor)

    def replace(source: Path, target: Path, real=os.replace) -> None:
        note('replace', os.stat(source))
        real(source, target)
        assert target == path

    monkeypatch.setattr(os, 'fsync', fsync)
    monkeypatch.setattr(os, 'replace', replace)
    path = tmp_path / 'epoch_1.pth'
    AtomicBackend().put(b'new', path)
    file, folder = path.stat(), tmp_path.stat()
    assert [(what, inode) for what, inode, _ in done] == [
        ('sync', file.st_ino),
        ('replace', file.st_ino),
        ('sync', folder.st_ino),
    ]
    assert done[0][2] == 3  # nothing is left in Python's buffer


def test_what_cannot_be_synced_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a failing disk tells of writes that had seemed to succeed."""
    path = save(tmp_path, 'epoch_1.pth', 1.0)

    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, 'fsync', fsync)
    with pytest.raises(OSError, match='could not be written') as caught:
        save(tmp_path, 'epoch_1.pth', 2.0)
    assert caught.value.errno == errno.EIO
    assert str(path) in str(caught.value)
    assert os.listdir(tmp_path) == ['epoch_1.pth']
    assert newest_checkpoint(tmp_path) == path
    assert torch.load(path)['state_dict']['w'].eq(1).all()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').write_bytes(b'')
    with pytest.raises(OSError, match=r'file/epoch_1.pth \(1 bytes\)'):
        AtomicBackend().put(b'x', tmp_path / 'file' / 'epoch_1.pth')


def test_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / 'epoch_1.txt').write_text('')
    (tmp_path / 'best_epoch_1.pth').write_text('')
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / 'none') is None


def test_the_newest_is_the_one_written_last(tmp_path: Path) -> None:
    """Not the furthest one: that may be of an earlier run."""
    for name, age in (('epoch_9', 3), ('iter_700', 2), ('epoch_2', 1)):
        path = save(tmp_path, f'{name}.pth')
        os.utime(path, (1e9 - age, 1e9 - age))
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.name == 'epoch_2.pth'
    newest.unlink()
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.name == 'iter_700.pth'


def test_epoch_10_is_newer_than_epoch_9_at_the_same_time(
    tmp_path: Path,
) -> None:
    for epoch in (9, 10, 8):
        path = save(tmp_path, f'epoch_{epoch}.pth')
        os.utime(path, (1e9, 1e9))
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.name == 'epoch_10.pth'


@pytest.mark.parametrize('content', ['', '\0' * 30, '/gone/epoch_5.pth'])
def test_a_useless_last_checkpoint_file_does_no_harm(
    tmp_path: Path, content: str
) -> None:
    path = save(tmp_path, 'epoch_1.pth')
    (tmp_path / 'last_checkpoint').write_text(content)
    assert newest_checkpoint(tmp_path) == path


def test_last_checkpoint_finds_other_names_and_folders(
    tmp_path: Path,
) -> None:
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    path = save(tmp_path / 'elsewhere', 'step5.pth')
    (work_dir / 'last_checkpoint').write_text(f'{path}\n')
    assert newest_checkpoint(work_dir) == path
    moved = save(work_dir, 'step5.pth')
    assert newest_checkpoint(work_dir) == moved


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path, 'epoch_1.pth')
    content = path.read_bytes()
    where = content.index(torch.ones(100).numpy().tobytes())
    path.write_bytes(content[:where] + b'\1' + content[where + 1 :])
    with pytest.raises(ValueError, match=r'epoch_1.pth damaged') as caught:
        newest_checkpoint(tmp_path)
    assert 'start anew' in str(caught.value)


def test_no_damage_to_a_file_stops_the_search(tmp_path: Path) -> None:
    """Whatever byte is changed: it is intact or not, never an exception."""
    good = save(tmp_path, 'epoch_1.pth')
    os.utime(good, (1e9, 1e9))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as file:
        file.writestr('data', bytes(8))
    content = buffer.getvalue()
    bad = tmp_path / 'epoch_2.pth'
    found = set()
    for index in range(len(content)):
        changed = bytearray(content)
        changed[index] ^= 0x81
        bad.write_bytes(changed)
        found.add(newest_checkpoint(tmp_path))
        bad.write_bytes(content[:index])
        assert newest_checkpoint(tmp_path) == good
    assert found == {good, bad}  # some bytes do not matter
