# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Markers stand for exactly the work that they were written for."""

from __future__ import annotations

from pathlib import Path

import pytest

from reducenet_mm.datasets.holdout import holdout_split
from reducenet_mm.experiments.records import (
    content_hash,
    read_marker,
    set_aside,
    write_marker,
)


def test_a_hash_depends_on_every_value_but_not_on_key_order() -> None:
    one = content_hash(dict(a=1, b=(2, [3, None])))
    assert one == content_hash(dict(b=[2, [3, None]], a=1))
    assert one != content_hash(dict(a=1, b=[2, [3, 0]]))
    assert one != content_hash(dict(a='1', b=[2, [3, None]]))
    assert len(one) == 64


def test_a_function_counts_by_its_name() -> None:
    """As in ``dict(type=holdout_split)``; its address is another each time."""
    text = '<function reducenet_mm.datasets.holdout.holdout_split>'
    assert content_hash(dict(type=holdout_split)) == content_hash(
        dict(type=text)
    )
    assert content_hash(dict(type=Path)) == content_hash(dict(type=repr(Path)))
    with pytest.raises(ValueError, match=r'<object object at 0x\w+> in a con'):
        content_hash(dict(sampler=object()))
    with pytest.raises(ValueError, match=r'<lambda> at 0x'):
        content_hash(dict(type=lambda: None))
    assert content_hash({'a', 'b', 'c'}) == content_hash({'c', 'b', 'a'})


def test_a_marker_is_read_only_for_its_own_hash(tmp_path: Path) -> None:
    folder = tmp_path / 'new'
    written = write_marker(folder, 'abc', dict(epochs=3))
    assert written == read_marker(folder, 'abc') == dict(hash='abc', epochs=3)
    assert read_marker(folder, 'abd') is None
    assert read_marker(tmp_path, 'abc') is None
    assert [path.name for path in folder.iterdir()] == ['done.json']


def test_a_broken_marker_counts_as_none(tmp_path: Path) -> None:
    for text in ('{"hash": "abc"', '[]', ''):
        (tmp_path / 'done.json').write_text(text)
        assert read_marker(tmp_path, 'abc') is None


def test_outdated_results_are_kept_under_another_name(tmp_path: Path) -> None:
    run = tmp_path / 'teacher'
    assert set_aside(run) is None
    for number in (1, 2):
        run.mkdir()
        (run / 'epoch_1.pth').write_text(str(number))
        assert set_aside(run) == tmp_path / f'teacher.old{number}'
        assert not run.exists()
    assert (tmp_path / 'teacher.old1' / 'epoch_1.pth').read_text() == '1'
