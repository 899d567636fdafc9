# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Tools as modules and as processes, and two small runs shared by tests."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.test_tools.forked import run_forked

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / 'configs' / 'reducenet' / 'digits'
TEACHER_CONFIG = DIGITS / 'reducenet8-w16-e4_digits_teacher.py'
STUDENT_CONFIG = DIGITS / 'reducenet8-w16-e4_digits_student.py'

NARROW = {
    'backbone.base_channels': 8,
    'backbone.expansion': 2,
    'head.in_channels': 32,
}
TEACHER_MODEL = [f'model.{key}={value}' for key, value in NARROW.items()]
STUDENT_MODEL = [
    f'model.architecture.{key}={value}' for key, value in NARROW.items()
]


def schedule(epochs: int) -> list[str]:
    """Options for a training of ``epochs``, validated at the end."""
    return [
        'train_dataloader.batch_size=16',
        f'train_cfg.max_epochs={epochs}',
        f'train_cfg.val_interval={epochs}',
        f'param_scheduler.periods=[{epochs}]',
    ]


@pytest.fixture(scope='session')
def config() -> SimpleNamespace:
    """Configs of the digits and options which make them tiny."""
    return SimpleNamespace(
        teacher=str(TEACHER_CONFIG),
        student=str(STUDENT_CONFIG),
        narrow={f'model.{key}': value for key, value in NARROW.items()},
        teacher_model=TEACHER_MODEL,
        student_model=STUDENT_MODEL,
        schedule=schedule,
    )


@pytest.fixture
def load_tool() -> Callable[[str], SimpleNamespace]:
    """Load ``tools/<name>.py`` as a module, without a new process."""

    def load(name: str) -> SimpleNamespace:
        path = ROOT / 'tools' / f'{name}.py'
        return SimpleNamespace(**runpy.run_path(str(path)))

    return load


def run_process(*command: object, **env: str) -> subprocess.CompletedProcess:
    """Run a command with this interpreter first on the PATH.

    In one thread each, unless ``env`` says otherwise: the networks are tiny.
    """
    paths = [ROOT, *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
    bins = [Path(sys.executable).parent, os.environ['PATH']]
    env = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join(str(path) for path in paths if path),
        'PATH': os.pathsep.join(map(str, bins)),
        'OMP_NUM_THREADS': '1',
        **env,
    }
    return subprocess.run(
        [str(part) for part in command],
        env=env,
        text=True,
        capture_output=True,
        timeout=600,
    )


@pytest.fixture(scope='session')
def process() -> Callable[..., subprocess.CompletedProcess]:
    """``process(*command, **env)`` runs a command to its end."""
    return run_process


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a tool without a new process, which takes seconds to start."""

    def run_tool(*command: object) -> None:
        monkeypatch.setattr(sys, 'argv', [str(part) for part in command])
        runpy.run_path(sys.argv[0], run_name='__main__')

    return run_tool


@pytest.fixture
def free_port() -> str:
    """A TCP port that nothing listens on."""
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


def train(config_file: Path, work_dir: Path, options: list[str]) -> Path:
    """Train in a process of its own; return the work dir."""
    arguments = ['--work-dir', work_dir, '--cfg-options', *options]
    run_forked('train', config_file, *arguments)
    return work_dir


@pytest.fixture(scope='session')
def teacher_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work dir of a small teacher trained for four epochs."""
    work_dir = tmp_path_factory.mktemp('runs') / 'teacher'
    return train(TEACHER_CONFIG, work_dir, [*TEACHER_MODEL, *schedule(4)])


@pytest.fixture(scope='session')
def student_run(teacher_run: Path) -> Path:
    """Work dir of its student, distilled for two epochs."""
    return train(
        STUDENT_CONFIG,
        teacher_run.with_name('student'),
        [*STUDENT_MODEL, *schedule(2), f'model.teacher_ckpt={teacher_run}'],
    )
