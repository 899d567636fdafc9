# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Files are written completely or not at all."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from reducenet_mm.files import (
    check_file,
    check_folder,
    sha256_file,
    write_atomically,
    write_folder,
    write_json,
)


def test_text_and_bytes_are_written(tmp_path: Path) -> None:
    first, second = tmp_path / 'a', tmp_path / 'b'
    write_atomically({first: 'é', second: b'\x00'})
    assert first.read_bytes() == 'é'.encode()
    assert second.read_bytes() == b'\x00'
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_one_failure_leaves_all_files_as_they_were(tmp_path: Path) -> None:
    kept = tmp_path / 'kept'
    kept.write_text('old')
    with pytest.raises(OSError):
        write_atomically({kept: 'new', tmp_path / 'no' / 'folder': 'x'})
    assert kept.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [kept]


def test_a_failed_renaming_leaves_whole_files_only(tmp_path: Path) -> None:
    first, folder = tmp_path / 'first', tmp_path / 'second'
    first.write_text('old')
    folder.mkdir()
    with pytest.raises(OSError):
        write_atomically({first: 'new', folder: 'x'})
    assert first.read_text() == 'new'  # as its docstring says
    assert sorted(tmp_path.iterdir()) == [first, folder]


def test_json_without_a_standard_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / 'a.json', dict(loss=float('nan')))
    assert not list(tmp_path.iterdir())


def test_json_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'a.json'
    write_json(path, [1])
    assert json.loads(path.read_text()) == [1]


def test_sha256_is_that_of_the_standard(tmp_path: Path) -> None:
    path = tmp_path / 'abc'
    path.write_bytes(b'abc')
    assert sha256_file(path) == (
        'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    )


def test_a_folder_holds_what_belongs_together(tmp_path: Path) -> None:
    folder = tmp_path / 'deep' / 'folder'
    write_folder(folder, dict(a='1', b='1'))
    (folder / 'mine').write_text('mine')
    write_folder(folder, dict(a='2'), obsolete=('a', 'b', 'c'))
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found == dict(a='2', mine='mine')


def test_a_folder_in_the_way_changes_nothing(tmp_path: Path) -> None:
    write_folder(tmp_path, dict(a='1', b='1'))
    (tmp_path / 'c').mkdir()
    with pytest.raises(IsADirectoryError, match='c'):
        write_folder(tmp_path, dict(a='2', c='2'), obsolete=('b',))
    assert (tmp_path / 'a').read_text() == (tmp_path / 'b').read_text() == '1'


def test_a_folder_that_cannot_be_is_told_from_one_that_can(
    tmp_path: Path,
) -> None:
    (tmp_path / 'taken').write_text('mine')
    check_folder(tmp_path)
    check_folder(tmp_path / 'new' / 'newer')
    with pytest.raises(NotADirectoryError, match=r"taken' is a file; give a"):
        check_folder(tmp_path / 'taken')
    match = r"cannot write to '.*newer': '.*taken' is a file\."
    with pytest.raises(NotADirectoryError, match=match):
        check_folder(tmp_path / 'taken' / 'new' / 'newer')
    assert [path.name for path in tmp_path.iterdir()] == ['taken']


def test_a_name_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / 'link').symlink_to(tmp_path / 'nowhere')
    with pytest.raises(NotADirectoryError, match="link' is a link to nowhere"):
        check_folder(tmp_path / 'link' / 'new')
    for check in (check_folder, check_file):
        with pytest.raises(FileNotFoundError, match='Give a shorter'):
            check(tmp_path / ('x' * 300))
    (tmp_path / 'nowhere').mkdir()
    check_folder(tmp_path / 'link' / 'new')
    check_file(tmp_path / ('x' * 200))


def test_a_folder_that_must_not_be_looked_into_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As below a folder of somebody else's; root may look everywhere."""

    def stat(path: Path, **_: bool) -> None:
        raise PermissionError(errno.EACCES, 'Permission denied', str(path))

    monkeypatch.setattr(Path, 'stat', stat)
    with pytest.raises(PermissionError, match='Permission denied'):
        check_folder(tmp_path / 'new')
