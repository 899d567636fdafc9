# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A cut or flipped checkpoint: one error, whatever it was given for."""

from __future__ import annotations

import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader, Runner

from reducenet_mm import compat

from .training import (
    CONFIG,
    MODEL,
    STUDENT,
    STUDENT_MODEL,
    TEST_TOOL,
    TRAIN_TOOL,
    logged,
    run_tool,
    same_weights,
    settings,
    small_cfg,
    train_teacher,
)


def cut(path: Path) -> None:
    """Lose the last third, as in a copy that was broken off."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def flip(path: Path) -> None:
    """Flip the highest bit of one byte in the middle of a tensor."""
    with zipfile.ZipFile(path) as archive:
        tensors = [r for r in archive.infolist() if '/data/' in r.filename]
        record = max(tensors, key=lambda info: info.file_size)
        content = archive.read(record)
    data = bytearray(path.read_bytes())
    data[data.index(content) + len(content) // 2] ^= 0x80
    path.write_bytes(data)


FAULTS = {'cut': cut, 'flip': flip}


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work dir of a teacher trained for two epochs."""
    work_dir = tmp_path_factory.mktemp('faults') / 'teacher'
    train_teacher(work_dir, 2)
    return work_dir


@pytest.fixture(params=FAULTS)
def damaged(request, tmp_path: Path, finished: Path) -> Path:
    """A damaged copy of the teacher's last checkpoint."""
    path = tmp_path / 'damaged.pth'
    shutil.copy(finished / 'epoch_2.pth', path)
    FAULTS[request.param](path)
    return path


@pytest.mark.parametrize(
    'given_for',
    ['resume', 'load_from', 'teacher_ckpt', 'student_init', 'init', 'test'],
)
def test_a_damaged_file_is_refused_in_one_line(
    given_for, damaged, finished, tmp_path, capsys
):
    work_dir = tmp_path / 'run'
    train = [TRAIN_TOOL, CONFIG, '--work-dir', work_dir]
    student = [TRAIN_TOOL, STUDENT, '--work-dir', work_dir]
    teacher = {
        'model.teacher_ckpt': finished / 'epoch_2.pth',
        **STUDENT_MODEL,
    }
    pretrained = {
        'model.init_cfg.type': 'Pretrained',
        'model.init_cfg.checkpoint': damaged,
    }
    arguments, options = {
        'resume': ([*train, '--resume', damaged], MODEL),
        'load_from': (train, {'load_from': damaged, **MODEL}),
        'teacher_ckpt': (student, {**teacher, 'model.teacher_ckpt': damaged}),
        'student_init': (student, {**teacher, 'model.student_init': damaged}),
        'init': (train, {**pretrained, **MODEL}),
        'test': ([TEST_TOOL, CONFIG, damaged, *train[2:]], MODEL),
    }[given_for]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run_tool(*arguments, **settings(1), **options)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(damaged) in line
    assert 'it is truncated or damaged (' in line
    assert 'Copy, download or train it again' in line
    assert not work_dir.exists()


def test_resume_passes_over_a_damaged_file(finished, tmp_path):
    work_dir = tmp_path / 'run'
    shutil.copytree(finished, work_dir)
    flip(work_dir / 'epoch_2.pth')
    train_teacher(work_dir, 2, '--resume')
    log = logged(work_dir)
    assert f'{work_dir / "epoch_2.pth"} is damaged' in log
    assert f'{work_dir / "epoch_1.pth"} is the newest intact checkpoint' in log
    assert same_weights(work_dir / 'epoch_2.pth', finished / 'epoch_2.pth')


def test_resume_with_damaged_files_only_is_refused(finished, tmp_path, capsys):
    work_dir = tmp_path / 'run'
    shutil.copytree(finished, work_dir)
    cut(work_dir / 'epoch_1.pth')
    flip(work_dir / 'epoch_2.pth')
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        train_teacher(work_dir, 2, '--resume')
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'epoch_1.pth' in line and 'epoch_2.pth' in line


def test_a_runner_without_the_tools_refuses_it_too(finished, tmp_path):
    damaged = tmp_path / 'damaged.pth'
    shutil.copy(finished / 'epoch_2.pth', damaged)
    flip(damaged)
    cfg = small_cfg(tmp_path / 'run', 3, resume=True, load_from=str(damaged))
    with pytest.raises(RuntimeError, match='truncated or damaged'):
        Runner.from_cfg(cfg).train()


@pytest.fixture
def checkpoint(tmp_path: Path) -> dict:
    content = dict(
        state_dict={f'{i}.weight': torch.randn(5, i + 1) for i in range(4)},
        meta=dict(iter=3),
    )
    torch.save(content, tmp_path / 'whole.pth')
    return content


def test_no_flipped_bit_gets_through(checkpoint, tmp_path):
    """Anywhere in the file: it is refused, or of no consequence."""
    whole = (tmp_path / 'whole.pth').read_bytes()
    path = tmp_path / 'flipped.pth'
    rng = random.Random(0)
    refused = 0
    for place in range(0, len(whole), 3):
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            loaded = CheckpointLoader.load_checkpoint(str(path), 'cpu')
        except Exception:
            refused += 1
            continue
        assert loaded['meta'] == checkpoint['meta'], place
        for key, value in checkpoint['state_dict'].items():
            assert torch.equal(loaded['state_dict'][key], value), place
    assert refused > 100


def test_every_flipped_bit_of_a_tensor_is_found(checkpoint, tmp_path):
    """Torch itself finds none; if that changes, the shim can go."""
    whole = (tmp_path / 'whole.pth').read_bytes()
    path = tmp_path / 'flipped.pth'
    tensor = checkpoint['state_dict']['3.weight']
    start = whole.index(tensor.numpy().tobytes())
    for place in range(start, start + tensor.nbytes):
        data = bytearray(whole)
        data[place] ^= 1 << (place % 8)
        path.write_bytes(data)
        assert 'another checksum' in compat.find_damage(path)
    torch.load(path)
    with pytest.raises(RuntimeError, match='another checksum'):
        CheckpointLoader.load_checkpoint(str(path), 'cpu')


def test_a_record_marked_as_a_folder_is_found(checkpoint, tmp_path):
    """Torch would give uninitialised memory for it, checksums or not."""
    data = bytearray((tmp_path / 'whole.pth').read_bytes())
    entry = data.rindex(b'PK\x01\x02')
    data[entry + 38] |= 0x10  # external attributes
    path = tmp_path / 'folder.pth'
    path.write_bytes(data)
    assert 'marked as a folder' in compat.find_damage(path)


@pytest.mark.parametrize('kind', ['zip', 'old', 'without checksums'])
def test_whole_files_load(kind, checkpoint, tmp_path):
    path = tmp_path / 'again.pth'
    computes = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(kind != 'without checksums')
    try:
        torch.save(
            checkpoint, path, _use_new_zipfile_serialization=kind != 'old'
        )
    finally:
        torch.serialization.set_crc32_options(computes)
    assert compat.find_damage(path) is None
    loaded = CheckpointLoader.load_checkpoint(str(path), 'cpu')
    torch.testing.assert_close(loaded, checkpoint)


def test_checksums_are_installed_once():
    before = CheckpointLoader._get_checkpoint_loader('a.pth')
    assert before.__name__ == 'load_from_local'
    compat.install_checksums()
    assert CheckpointLoader._get_checkpoint_loader('a.pth') is before
