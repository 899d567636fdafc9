# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The export tool on real runs."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config

from reducenet_mm.export import export_student

ALL_FILES = [
    'parity.json',
    'student.onnx',
    'student.pth',
    'student.py',
    'student_backbone.py',
    'student_folded.pth',
    'student_folded.py',
    'student_int8.onnx',
]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def export(load_tool: Callable[[str], SimpleNamespace]) -> Callable:
    return load_tool('export').main


@pytest.mark.parametrize('stage', ['teacher', 'student'])
def test_both_kinds_of_run_are_exported(
    stage: str,
    request: pytest.FixtureRequest,
    config: SimpleNamespace,
    export: Callable,
    tmp_path: Path,
    capsys: Any,
) -> None:
    run = request.getfixturevalue(f'{stage}_run')
    checkpoint = run / f'epoch_{4 if stage == "teacher" else 2}.pth'
    arguments = [getattr(config, stage), str(checkpoint)]
    options = getattr(config, f'{stage}_model')
    out = tmp_path / 'out'
    export([*arguments, '--out', str(out), '--cfg-options', *options])
    assert names(out) == [
        'parity.json',
        'student.pth',
        'student.py',
        'student_backbone.py',
    ]
    saved = torch.load(out / 'student.pth', weights_only=True)
    trained = torch.load(checkpoint, weights_only=False)['state_dict']
    prefix = '' if stage == 'teacher' else 'architecture.'
    for key, value in saved['state_dict'].items():
        assert torch.equal(value, trained[prefix + key])
    assert saved['meta']['provenance']['checkpoint'] == checkpoint.name
    printed = capsys.readouterr().out
    assert '16 validation images' in printed


def test_the_wrong_config_is_one_line_and_nothing_is_written(
    teacher_run: Path,
    config: SimpleNamespace,
    export: Callable,
    tmp_path: Path,
    capsys: Any,
) -> None:
    checkpoint = str(teacher_run / 'epoch_4.pth')  # narrower than the config
    with pytest.raises(SystemExit) as caught:
        export([config.teacher, checkpoint, '--out', str(tmp_path / 'out')])
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('export.py: error: checkpoint ')
    assert 'base_channels' in error
    assert not (tmp_path / 'out').exists()


@pytest.fixture
def arguments(student_run: Path, config: SimpleNamespace) -> list[str]:
    """Config and checkpoint of a student, and what makes it so narrow."""
    checkpoint = str(student_run / 'epoch_2.pth')
    options = ['--cfg-options', *config.student_model]
    return [config.student, checkpoint, *options]


def test_what_is_read_is_not_overwritten(
    arguments: list[str], export: Callable, tmp_path: Path, capsys: Any
) -> None:
    config, checkpoint, *options = arguments
    own = shutil.copy(checkpoint, tmp_path / 'student.pth')
    before = own.read_bytes()
    with pytest.raises(SystemExit) as caught:
        export([config, str(own), '--out', str(tmp_path), *options])
    assert caught.value.code == 2
    assert 'would be overwritten' in capsys.readouterr().err
    assert own.read_bytes() == before and names(tmp_path) == ['student.pth']


def test_only_an_earlier_export_is_removed(
    arguments: list[str], export: Callable, tmp_path: Path
) -> None:
    config, checkpoint, *options = arguments
    command = [config, checkpoint, '--out', str(tmp_path), *options]
    (tmp_path / 'student.onnx').write_text('of another tool')
    export(command)
    assert 'student.onnx' in names(tmp_path)
    export(command)  # all that is named so is now of the export before
    assert 'student.onnx' not in names(tmp_path)


def test_every_form_is_compared_measured_and_written(
    arguments: list[str], export: Callable, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / 'out'
    flags = ['--fold-bn', '--int8', '--calibration-images', '40']
    export([*arguments, '--out', str(out), *flags, '--max-images', '120'])
    assert names(out) == ALL_FILES
    parity = json.loads((out / 'parity.json').read_text())
    compared = {one['form']: one for one in parity['comparisons']}
    tolerances = {form: one['tolerance'] for form, one in compared.items()}
    assert tolerances == {
        'stripped and merged': 1e-10,
        'student.pth': 1e-5,
        'norms folded': 1e-10,
        'student_folded.pth': 1e-5,
        'student.onnx': 1e-4,
        'student_int8.onnx': None,
    }
    for one in compared.values():
        assert set(one['differences']) == {'validation', 'random'}
        if one['tolerance'] is not None:
            assert max(one['differences'].values()) <= one['tolerance']
    assert compared['student_int8.onnx']['differences']['validation'] > 1e-4
    accuracy = parity['accuracy']
    assert (accuracy['images'], accuracy['available']) == (120, 300)
    float_forms = {
        value
        for form, value in accuracy['values'].items()
        if form != 'student_int8.onnx'
    }
    assert len(float_forms) == 1
    assert list(accuracy['values']) == [
        'supernet at scaler 0',
        'student.pth',
        'student_folded.pth',
        'student.onnx',
        'student_int8.onnx',
    ]
    for name in ('student.pth', 'student_folded.pth'):
        meta = torch.load(out / name, weights_only=True)['meta']
        assert meta['parity'] == parity
    printed, shown = capsys.readouterr()
    assert f'{accuracy["values"]["student.onnx"]:.2f}' in printed
    assert 'on 120 of 300 validation images (--max-images)' in printed
    assert 'measuring 5 networks on 120 of 300 validation images' in shown
    assert len(shown.splitlines()) == 1  # no bar without a terminal

    # Whatever is there after another export belongs to that one.
    export([*arguments, '--out', str(out)])
    assert names(out) == [
        name
        for name in ALL_FILES
        if 'folded' not in name and 'onnx' not in name
    ]


@pytest.mark.parametrize(
    ('given', 'limit'),
    [([], 2000), (['--max-images', '7'], 7), (['--max-images', 'all'], None)],
)
def test_the_limit_of_images_to_measure_on(
    given: list[str], limit: int | None, load_tool: Callable
) -> None:
    arguments = ['config.py', 'a.pth', '--out', 'out', *given]
    tool = load_tool('export')
    assert tool.parse_args(arguments).max_images == limit
    with pytest.raises(SystemExit):
        tool.parse_args([*arguments, '--max-images', '0'])


def test_a_form_that_breaks_is_named_and_nothing_is_written(
    arguments: list[str],
    load_tool: Callable[[str], SimpleNamespace],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from reducenet_mm.export import forms

    def wrong(model: torch.nn.Module, *rest: Any) -> bytes:
        with torch.no_grad():
            model.head.fc.bias.add_(0.5)
        return to_onnx(model, *rest)

    to_onnx = forms.to_onnx
    monkeypatch.setattr(forms, 'to_onnx', wrong)
    out = tmp_path / 'out'
    with pytest.raises(SystemExit) as caught:
        load_tool('export').main([*arguments, '--out', str(out), '--onnx'])
    assert 'student' in str(caught.value.code)
    assert 'is not the same function' in str(caught.value.code)
    assert not out.exists()


def test_a_folder_that_is_a_file_is_refused_first(
    arguments: list[str], export: Callable, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / 'out').write_text('mine')
    with pytest.raises(SystemExit) as caught:
        export([*arguments, '--out', str(tmp_path / 'out')])
    assert caught.value.code == 2
    assert 'is a file; give a folder' in capsys.readouterr().err
    assert (tmp_path / 'out').read_text() == 'mine'


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs os.fork')
def test_a_folder_without_permission_is_refused_first(
    arguments: list[str],
) -> None:
    """As a user who is not root: nothing forbids root to write.

    That user may read nothing of this one's either, so it has to be first.
    """
    config = Config.fromfile(arguments[0])
    with tempfile.TemporaryDirectory() as name:
        closed = Path(name, 'closed')
        closed.mkdir()
        Path(name).chmod(0o755)
        closed.chmod(0o555)
        pipe, end = os.pipe()
        if not (child := os.fork()):
            if os.getuid() == 0:
                os.setgroups([])
                os.setresgid(*3 * [65534])
                os.setresuid(*3 * [65534])
            try:
                export_student(config, arguments[1], closed / 'out')
                os.write(end, b'it was written')
            except BaseException as error:
                os.write(end, f'{type(error).__name__}: {error}'.encode())
            os._exit(0)
        os.close(end)
        os.waitpid(child, 0)
        with open(pipe) as answer:
            message = answer.read()
        wanted = f"PermissionError: cannot write to '{closed / 'out'}'"
        assert message.startswith(f'{wanted}: no permission in ')
        assert not list(closed.iterdir())


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_a_full_disk_leaves_nothing_behind(
    arguments: list[str],
    export: Callable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    old = tmp_path / 'old'
    export([*arguments, '--out', str(old)])
    before = {path: path.read_bytes() for path in old.iterdir()}
    sync = os.fsync

    def full(descriptor: int) -> None:
        """Write the last file to a device that is always full."""
        if os.readlink(f'/proc/self/fd/{descriptor}').count('parity.json'):
            with open('/dev/full', 'wb', buffering=0) as disk:
                disk.write(b'x')
        sync(descriptor)

    monkeypatch.setattr(os, 'fsync', full)
    for out in (old, tmp_path / 'new' / 'deep'):
        with pytest.raises(SystemExit) as caught:
            export([*arguments, '--out', str(out)])
        assert os.strerror(errno.ENOSPC) in str(caught.value.code)
    assert not (tmp_path / 'new').exists()
    assert {path: path.read_bytes() for path in old.iterdir()} == before


class Code:
    """What a checkpoint must not hold."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ('executed',)


def test_a_checkpoint_that_holds_code_is_refused(
    arguments: list[str],
    export: Callable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: Any,
) -> None:
    path = tmp_path / 'code.pth'
    weights = torch.load(arguments[1], weights_only=False)['state_dict']
    torch.save(
        dict(state_dict=weights, meta=Code()), path, pickle_module=pickle
    )
    config = str(Path(arguments[0]).absolute())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        export([config, str(path), *arguments[2:], '--out', 'out'])
    assert 'code.pth' in capsys.readouterr().err
    assert names(tmp_path) == ['code.pth']


def test_calibration_is_for_int8(load_tool: Callable, capsys: Any) -> None:
    parse = load_tool('export').parse_args
    arguments = ['config.py', 'a.pth', '--out', 'out']
    assert parse(arguments).calibration_images == 256
    images = ['--calibration-images', '7']
    assert parse([*arguments, '--int8', *images]).calibration_images == 7
    with pytest.raises(SystemExit):
        parse([*arguments, '--onnx', *images])
    error = capsys.readouterr().err
    assert '--calibration-images needs --int8' in error
