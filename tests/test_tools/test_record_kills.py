# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""tools/analysis_tools/record_kills.py: what it does first, what it keeps."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parents[2]
GOOD = dict(
    code=dict(commit='a1', dirty=False),
    identical=True,
    kills_by_kind=dict(in_write=2),
    kills_wanted=dict(in_write=2),
)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.chdir(ROOT)
    path = ROOT / 'tools' / 'analysis_tools' / 'record_kills.py'
    return SimpleNamespace(**runpy.run_path(str(path)))


def test_what_a_mode_starts_from_comes_before_it(
    recorder: SimpleNamespace,
) -> None:
    assert recorder.find_modes([]) == sorted(
        path.stem for path in (ROOT / recorder.MODES).glob('*.py')
    )
    needed = dict(
        grafted_student=['grafted_teacher'],
        grown_teacher=['plain'],  # by load_from
        inplace_netaug=[],
        student_lora=['teacher', 'teacher'],
        teacher=[],
        two_networks=['teacher'],  # a file, as MMRazor wants it
    )
    modes = list(needed)
    assert needed == {mode: recorder.needs(mode) for mode in modes}
    order = recorder.in_order(modes, needed, lambda mode: False)
    assert sorted(order) == sorted([*modes, 'grafted_teacher', 'plain'])
    for mode in modes:
        for other in needed[mode]:
            assert order.index(other) < order.index(mode)
    only = recorder.in_order(['student_lora'], needed, lambda mode: False)
    assert only == ['teacher', 'student_lora']
    there = {'teacher'}.__contains__
    only = recorder.in_order(['student_lora'], needed, there)
    assert only == ['student_lora']


def test_a_reference_of_other_code_is_none_to_start_from(
    recorder: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / 'teacher.json'
    file.write_text(json.dumps(GOOD))
    assert not recorder.has_reference('teacher', file, 'a1')  # not there
    reference = tmp_path / 'work_dirs' / 'kills' / 'teacher' / 'reference'
    reference.mkdir(parents=True)
    torch.save({}, reference / 'epoch_6.pth')
    assert recorder.has_reference('teacher', file, 'a1')
    assert not recorder.has_reference('teacher', file, 'b2')
    assert recorder.has_reference('teacher', file, None)  # of changed code


def test_a_mode_that_is_not_there_is_refused(
    recorder: SimpleNamespace, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stopped:
        recorder.main(['teachers'])
    assert stopped.value.code == 2
    assert "no modes ['teachers'] in tests" in capsys.readouterr().err


def test_only_a_good_result_of_this_very_code_is_kept(
    recorder: SimpleNamespace, tmp_path: Path
) -> None:
    file = tmp_path / 'teacher.json'

    def current(commit: str | None = 'a1', **changes: object) -> bool:
        file.write_text(json.dumps({**GOOD, **changes}))
        return recorder.is_current(file, commit)

    assert not recorder.is_current(file, 'a1')  # not there
    assert current()
    assert not current(None)
    assert not current('b2')
    assert not current(code=dict(commit='a1', dirty=True))
    assert not current(identical=False)
    assert not current(kills_by_kind=dict(in_write=1))
    file.write_text('{"kills": 5}')  # of a tool that did not know its version
    assert not recorder.is_current(file, 'a1')
