# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Processes that cannot be lost: logged, locked, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reducenet_mm.experiments.processes import (
    RunFailed,
    WorkDirBusy,
    exclusive,
    from_here,
    option_arguments,
    portable,
    run_logged,
    shell_command,
)


def test_results_do_not_say_where_they_were_made(tmp_path: Path) -> None:
    work_dir = tmp_path / 'runs of mine'
    library = Path(pytest.__file__).parent
    text = f'{work_dir}/plain/log, {library}/a.py, {Path.cwd()}/tools/b.py'
    shared = portable(text, work_dir)
    assert shared.startswith('<work dir>/plain/log, <environment>/lib')
    assert shared.endswith('/a.py, ./tools/b.py')
    other = f'{work_dir}2/log, {work_dir}.old/log, {work_dir}: it is full'
    shared = portable(other, work_dir)
    assert shared == other.replace(f'{work_dir}:', '<work dir>:')


def test_the_root_is_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir('/')
    path = '/nowhere/lib/x.py'
    assert portable(path, tmp_path) == path


def python(code: str) -> list[str]:
    return [sys.executable, '-c', code]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2]
    except FileNotFoundError:
        return False
    return state.split()[0] != 'Z'


def wait_for(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.02)


def test_options_arrive_unchanged() -> None:
    options = {
        'a.b': 3,
        'c': 1e-05,
        'd': True,
        'e': None,
        'f': [1],
        'g': [[1, 2], ['x', 2.5]],
        'h': (1, 2),
        'model.teacher_ckpt': './work dirs/a_b/epoch_3.pth',
    }
    assert option_arguments(options) == [
        'a.b=3',
        'c=1e-05',
        'd=True',
        'e=None',
        'f=[1]',
        'g=[[1,2],[x,2.5]]',
        'h=(1,2)',
        'model.teacher_ckpt=./work dirs/a_b/epoch_3.pth',
    ]


@pytest.mark.parametrize(
    'value',
    ['a dir,/x.pth', ' a', 'a,b', '5', dict(a=1), [dict(a=1)], 'None'],
)
def test_options_that_would_change_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match='cannot carry key='):
        option_arguments({'key': value})


def test_output_is_appended_and_progress_watched(tmp_path: Path) -> None:
    log, seen = tmp_path / 'new' / 'console.log', []
    for text in ('first', 'second'):
        run_logged(
            python(f'import sys; print("{text}"); sys.stderr.write("E!")'),
            log,
            watch=lambda: seen.append(1),
            poll_seconds=0.01,
        )
    text = log.read_text()
    assert text.index('first') < text.index('second')
    assert text.count('E!') == 2
    assert len(seen) >= 2


def test_a_failure_shows_the_end_of_its_own_output(tmp_path: Path) -> None:
    log = tmp_path / 'console.log'
    log.write_text('of an earlier session\n')
    code = 'for i in range(99): print("line", i)\nraise SystemExit(3)'
    with pytest.raises(RunFailed) as caught:
        run_logged(python(code), log, poll_seconds=0.01)
    message = str(caught.value)
    assert 'exit status 3' in message
    assert 'line 98' in message
    assert 'line 60' not in message
    assert 'earlier' not in message


def test_a_killed_process_is_named_by_its_signal(tmp_path: Path) -> None:
    code = 'import os; os.kill(os.getpid(), 9)'
    with pytest.raises(RunFailed, match='signal SIGKILL'):
        run_logged(python(code), tmp_path / 'log', poll_seconds=0.01)


def test_an_interruption_stops_the_process(tmp_path: Path) -> None:
    pid_file = tmp_path / 'pid'
    code = (
        'import os, time, pathlib\n'
        f'pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\n'
        'time.sleep(60)'
    )

    def watch() -> None:
        if pid_file.exists() and pid_file.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_logged(python(code), tmp_path / 'log', watch=watch)
    assert not is_alive(int(pid_file.read_text()))


RUNNER = """
import sys
from pathlib import Path
from reducenet_mm.experiments.processes import exclusive, run_logged
folder = Path(sys.argv[1])
with exclusive(folder) as lock:
    run_logged([sys.executable, '-c', sys.argv[2]], folder / 'log', lock)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='needs prctl')
def test_a_killed_pipeline_takes_its_process_along(tmp_path: Path) -> None:
    pid_file = tmp_path / 'pid'
    code = (
        'import os, time, pathlib\n'
        f'pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\n'
        'time.sleep(60)'
    )
    root = str(Path(__file__).parents[2])
    runner = subprocess.Popen(
        [*python(RUNNER), str(tmp_path), code],
        env={**os.environ, 'PYTHONPATH': root},
    )
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    child = int(pid_file.read_text())
    assert is_alive(child)
    with pytest.raises(WorkDirBusy, match=str(tmp_path)):
        with exclusive(tmp_path, patience=0.2):
            pass
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    with exclusive(tmp_path):  # the child held the lock too
        wait_for(lambda: not is_alive(child))


def test_paths_are_relative_where_they_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / 'my configs' / 'a.py'
    assert from_here(inside) == 'my configs/a.py'
    assert from_here(Path('b.py')) == 'b.py'
    assert from_here('/elsewhere/c.py') == '/elsewhere/c.py'
    words = ['/usr/bin/python3', 'train.py', str(inside), f'x={inside}', 'y=1']
    assert shell_command(words) == (
        "python train.py 'my configs/a.py' 'x=my configs/a.py' y=1"
    )
