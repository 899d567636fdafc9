# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Training processes that are killed at chosen moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reducenet_mm.files import LEFTOVER_SUFFIX

from ..processes import LOG, tail
from ..scalars import latest, scalar_files

UNIFORM = 'over_iterations'
WRITE = 'in_write'
FRESH_START = 'at_fresh_start'
RESUMED_START = 'at_resumed_start'
KINDS = (UNIFORM, WRITE, FRESH_START, RESUMED_START)
STARTS = (FRESH_START, RESUMED_START)

TO_CHECKPOINT = 'to_checkpoint'
"""A kill as soon as there is a checkpoint, so that there is a start to be
resumed; it counts as none of the kinds."""


@dataclass
class Kill:
    """A kill, as it was drawn and as it happened.

    Attributes:
        kind: One of ``KINDS``, or ``TO_CHECKPOINT``.
        moment: Iterations to wait for, the fraction being one of an
            iteration; in a write, that of the first checkpoint after them.
            At a start: a share of the time that the reference, the run left
            alone, took from its process's start to its first logged
            iteration.
        seconds: From the process's start to the kill; 0 if it had ended
            before.
        iteration: The last one that this process had logged, 0 before the
            first; -1 if it had ended before.
        hit_write: Whether a checkpoint was cut off under its temporary name.
        resumed_from: The checkpoint that the next session continued from.
    """

    kind: str
    moment: float
    seconds: float = 0.0
    iteration: int = -1
    hit_write: bool = False
    resumed_from: str | None = None

    def counts(self) -> bool:
        """Whether it came where its kind says."""
        if self.kind == WRITE:
            return self.hit_write
        if self.kind in STARTS:
            return self.iteration == 0
        return self.kind == UNIFORM and self.iteration > 0


@dataclass(frozen=True)
class Pace:
    """How fast the reference was.

    Attributes:
        start_up: Seconds from its process's start to its first logged
            iteration.
        step: Seconds of an iteration.
    """

    start_up: float
    step: float


def draw_runs(
    rng: random.Random,
    wanted: Mapping[str, int],
    per_run: int,
    iterations: int,
) -> list[list[Kill]]:
    """Draw kills and deal them out to runs.

    Uniform kills share no run with those in writes: a kill that waits for a
    write would leave the moments before it behind. Starts cost no iteration
    and are added to any run, at most one of each kind: a fresh one comes
    first, a resumed one after any other kill.

    Args:
        rng: What they are drawn from.
        wanted: How many, by kind.
        per_run: At most so many of a run; starts come on top.
        iterations: Of the whole training.

    Returns:
        The kills of each run, in order.
    """
    missing = Counter(wanted)
    runs = []
    while missing.total():
        kind = UNIFORM if missing[UNIFORM] > 0 else WRITE
        count = min(missing[kind], per_run)
        moments = sorted(rng.uniform(0, iterations) for _ in range(count))
        kills = [Kill(kind, moment) for moment in moments]
        if missing[FRESH_START] > 0:
            kills.insert(0, Kill(FRESH_START, rng.random()))
        if missing[RESUMED_START] > 0:
            place = rng.randint(min(1, count), count) + len(kills) - count
            kills.insert(place, Kill(RESUMED_START, rng.random()))
        missing -= Counter(kill.kind for kill in kills)
        runs.append(kills)
    return runs


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
        self.leftovers = self._partial()
        self.began = time.monotonic()
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

    def seconds(self) -> float:
        """Return the time since the process's start."""
        return time.monotonic() - self.began

    def iteration(self) -> int:
        """Return the last logged iteration; 0 before the first."""
        if len(scalar_files(self.work_dir)) == self.earlier:
            return 0
        return latest(self.work_dir).iteration

    def writes(self) -> bool:
        """Whether its checkpoint is there under the temporary name."""
        return not self._partial() <= self.leftovers

    def has_checkpoint(self) -> bool:
        """Whether a checkpoint is in the work dir."""
        patterns = ('epoch_*.pth', 'iter_*.pth')  # best ones do not count
        return any(any(self.work_dir.glob(one)) for one in patterns)

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

    def _partial(self) -> set[str]:
        with os.scandir(self.work_dir) as entries:
            names = {entry.name for entry in entries}
        return {name for name in names if name.endswith(LEFTOVER_SUFFIX)}


def hit(session: Session, kill: Kill, pace: Pace) -> bool:
    """Wait for a kill's moment, kill, and complete its record.

    Args:
        session: The training.
        kill: What was drawn.
        pace: Of the reference.

    Returns:
        False if the training has ended before; it is not killed then.
    """
    if not _wait(session, kill, pace):
        return False
    session.kill()
    seconds = session.seconds()
    if session.process.returncode != -signal.SIGKILL:
        return False  # it was faster
    kill.seconds = round(seconds, 3)
    kill.iteration = session.iteration()
    kill.hit_write = session.writes()
    return True


def _wait(session: Session, kill: Kill, pace: Pace) -> bool:
    if kill.kind == TO_CHECKPOINT:
        return session.wait_until(session.has_checkpoint, 0.002)
    if kill.kind in STARTS:
        wait = kill.moment * pace.start_up
        return session.wait_until(lambda: session.seconds() >= wait, 0.002)
    wanted = max(1, int(kill.moment))
    if not session.wait_until(lambda: session.iteration() >= wanted, 0.002):
        return False
    time.sleep(kill.moment % 1 * pace.step)
    return kill.kind != WRITE or session.wait_until(session.writes, 0)
