# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Training processes that are killed at chosen moments."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reducenet_mm.engine.checkpointing.atomic_backend import LEFTOVER_SUFFIX

from .processes import LOG, tail
from .scalars import latest, scalar_files


@dataclass
class Kill:
    """A kill, as it was drawn and as it happened.

    Attributes:
        moment: Iterations to wait for; the fraction is one of an iteration.
        in_write: Whether to wait on, for a checkpoint to be written.
        iteration: The last one that was logged; -1 if the run has ended
            before.
        hit_write: Whether a checkpoint was cut off under its temporary name.
        resumed_from: The checkpoint that the next session continued from.
    """

    moment: float
    in_write: bool
    iteration: int = -1
    hit_write: bool = False
    resumed_from: str | None = None


class Session:
    """A training in a process group of its own, to be watched and killed.

    Leaving a ``with`` block kills it if it has not ended.

    Args:
        command: Program and arguments; logs every iteration's scalars.
        work_dir: Its work dir, which gets its output in ``console.log`` too.
    """

    def __init__(self, command: Sequence[str], work_dir: Path) -> None:
        self.work_dir = work_dir
        self.earlier = len(scalar_files(work_dir))
        work_dir.mkdir(parents=True, exist_ok=True)
        with open(work_dir / LOG, 'ab') as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def kill(self) -> None:
        """SIGKILL the process and its workers."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def iteration(self) -> int:
        """Return the last logged iteration; 0 before the first."""
        if len(scalar_files(self.work_dir)) == self.earlier:
            return 0
        return latest(self.work_dir, metric='').iteration

    def writes(self) -> bool:
        """Whether a checkpoint is there under its temporary name."""
        with os.scandir(self.work_dir) as entries:
            return any(e.name.endswith(LEFTOVER_SUFFIX) for e in entries)

    def wait_until(self, reached: Callable[[], bool], pause: float) -> bool:
        """Return True once ``reached()``, False if the process has ended."""
        while not reached():
            if self.process.poll() is not None:
                return False
            if pause:
                time.sleep(pause)
        return self.process.poll() is None

    def finish(self) -> None:
        """Wait for the end of the training.

        Raises:
            RuntimeError: If it ends with an error.
        """
        if self.process.wait() != 0:
            raise RuntimeError(
                f'training in {self.work_dir} has failed:\n'
                f'{tail(self.work_dir / LOG)}'
            )


def hit(session: Session, kill: Kill, step_seconds: float) -> bool:
    """Wait for a kill's moment, kill, and complete its record.

    Args:
        session: The training.
        kill: What was drawn.
        step_seconds: How long an iteration takes.

    Returns:
        False if the training has ended before; it is not killed then.
    """
    wanted = max(1, int(kill.moment))
    if not session.wait_until(lambda: session.iteration() >= wanted, 0.002):
        return False
    time.sleep(kill.moment % 1 * step_seconds)
    if kill.in_write and not session.wait_until(session.writes, 0):
        return False
    session.kill()
    if session.process.returncode != -signal.SIGKILL:
        return False  # it was faster
    kill.iteration = session.iteration()
    kill.hit_write = session.writes()
    return True
