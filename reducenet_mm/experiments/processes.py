# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Training and test runs as processes of their own."""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import reducenet_mm
from reducenet_mm.engine.cfg_options import CfgOptions

try:
    import fcntl
except ImportError:  # Windows: two runs in one work dir are not noticed
    fcntl = None  # type: ignore[assignment]

PR_SET_PDEATHSIG = 1
LOG = 'console.log'


class RunFailed(RuntimeError):
    """A process of the pipeline ended with an error; says which and how."""


class WorkDirBusy(RuntimeError):
    """Another process is at work in the same work dir."""


def option_arguments(options: Mapping[str, Any]) -> list[str]:
    """Return options as arguments of --cfg-options.

    Args:
        options: Values by dotted key.

    Returns:
        One ``key=value`` each.

    Raises:
        ValueError: If the command line cannot carry a value unchanged, such
            as a path with a comma in it.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions)
    arguments = []
    for key, value in options.items():
        text = f'{key}={_as_text(value)}'
        try:
            parsed = parser.parse_args(['--cfg-options', text]).cfg_options
        except (AssertionError, SystemExit):
            parsed = {}
        if parsed.get(key) != value or '=' in key:
            raise ValueError(
                f'--cfg-options cannot carry {key}={value!r}. Paths must not '
                'hold commas or brackets (choose another --work-dir); other '
                'values belong in a config file that inherits.'
            )
        arguments.append(text)
    return arguments


def from_here(path: str | Path) -> str:
    """Return a path, relative if it lies in the current folder."""
    here = Path.cwd()
    inside = Path(path).is_relative_to(here)
    return str(Path(path).relative_to(here) if inside else path)


def shell_command(command: Sequence[str]) -> str:
    """Return a Python command as one would type it.

    Args:
        command: The interpreter, the script and its arguments; absolute
            paths in the current folder become relative.
    """
    words = ['python']
    for word in command[1:]:
        key, sign, value = word.rpartition('=')
        words.append(f'{key}{sign}{from_here(value)}')
    return shlex.join(words)


def run_logged(
    command: Sequence[str],
    log: Path,
    lock_fd: int | None = None,
    watch: Callable[[], None] = lambda: None,
    poll_seconds: float = 0.3,
) -> None:
    """Run a command to its end, its output appended to ``log``.

    The process does not outlive this one: it is stopped on any exception
    here and, on Linux, killed when this process is.

    Args:
        command: Program and arguments.
        log: File for its standard output and error.
        lock_fd: File descriptor of a lock to be held as long as it lives.
        watch: Called every ``poll_seconds`` meanwhile.
        poll_seconds: See ``watch``.

    Raises:
        RunFailed: If it ends with an error; the message holds the log's end.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'ab') as output:
        start = output.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
            pass_fds=() if lock_fd is None else (lock_fd,),
            preexec_fn=_die_with_parent if sys.platform == 'linux' else None,
        )
        try:
            while process.poll() is None:
                watch()
                time.sleep(poll_seconds)
            watch()
        finally:
            _stop(process)
    if process.returncode != 0:
        raise RunFailed(
            f'{" ".join(command)}\nended with '
            f'{status_text(process.returncode)}. The end of its output '
            f'({log}):\n\n{tail(log, start)}'
        )


def tail(log: Path, start: int = 0, lines: int = 30) -> str:
    """Return the last lines of a log file, from byte ``start`` on."""
    with open(log, 'rb') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - 20_000))
        text = file.read().decode(errors='replace')
    return '\n'.join(text.splitlines()[-lines:])


def portable(text: str, work_dir: Path) -> str:
    """Leave out of a log where this project, Python and a work dir lie.

    Results are passed on; a path of somebody else's machine says nothing.
    """
    places = {
        Path.cwd(): '.',
        Path(__file__).parents[2]: '.',
        Path(sys.base_prefix): '<python>',
        Path(sys.prefix): '<environment>',
        work_dir: '<work dir>',
    }
    names = {str(p.absolute()): n for p, n in places.items() if p != p.parent}
    for path in sorted(names, key=len, reverse=True):  # inner ones first
        whole = re.escape(path) + r'(?![\w.-])'
        text = re.sub(whole, names[path], text)
    return text


@contextmanager
def exclusive(
    folder: Path, patience: float = 30.0, name: str = '.lock'
) -> Iterator[int | None]:
    """Hold the lock of a work dir, or of a part, inside a ``with`` block.

    Args:
        folder: The work dir; created if it is not there.
        patience: Seconds to wait for the processes of a killed run to end.
        name: The lock's file in ``folder``: one for each part.

    Yields:
        The lock's file descriptor, for processes that shall hold it too.

    Raises:
        WorkDirBusy: If another process keeps it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield None
        return
    deadline = time.monotonic() + patience
    with open(folder / name, 'w') as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise WorkDirBusy(
                        f'another process is at work in {folder}. Wait for '
                        'it, end it, or choose another --work-dir.'
                    ) from error
                time.sleep(0.1)
        yield file.fileno()


def import_path() -> str:
    """Return the PYTHONPATH by which a process imports this very package."""
    root = str(Path(reducenet_mm.__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get('PYTHONPATH')])]
    return os.pathsep.join(paths)


def status_text(returncode: int) -> str:
    """Say how a process has ended."""
    if returncode >= 0:
        return f'exit status {returncode}'
    return f'signal {signal.Signals(-returncode).name}'


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return f'[{",".join(map(_as_text, value))}]'
    if isinstance(value, tuple):
        return f'({",".join(map(_as_text, value))})'
    return str(value)


def _environment() -> dict[str, str]:
    """Let the tools import this very package, wherever they are run."""
    return {**os.environ, 'PYTHONPATH': import_path()}


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
