# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Run the cells of a campaign: each once, whoever else is at work."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ..processes import (
    LOG,
    WorkDirBusy,
    exclusive,
    import_path,
    portable,
    status_text,
    tail,
)
from ..records import STARTED, read_marker
from .ledger import BLOCKED, FAILED, FINISHED, Ledger, finished_record
from .plan import Cell
from .worker import CODE, PRELOAD, Job, work

METHODS = multiprocessing.get_all_start_methods()
METHOD = 'forkserver' if 'forkserver' in METHODS else 'spawn'
POLL_SECONDS = 0.3
OPEN = 'open'
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Settings:
    """How to run a campaign.

    Attributes:
        metric: The metric that is compared.
        threads: How many each cell computes with.
        processes: How many cells to train at the same time.
        test: Whether to look at the test set.
        keep_images: Whether cells decode each training image once.
    """

    metric: str
    threads: int = 1
    processes: int = 1
    test: bool = True
    keep_images: bool = False


@dataclass
class _Running:
    """A cell at work: its process, its claim and where its log began."""

    cell: Cell
    process: BaseProcess
    claim: ExitStack
    log_start: int


def start_server() -> None:
    """Start the process that cells are forked from; returns at once.

    It imports what they need while the campaign is being planned.
    """
    if METHOD != 'forkserver':
        return
    _context().set_forkserver_preload(list(PRELOAD))
    before = os.environ.get('PYTHONPATH')
    os.environ['PYTHONPATH'] = import_path()
    try:
        forkserver.ensure_running()
    finally:
        del os.environ['PYTHONPATH']
        if before is not None:
            os.environ['PYTHONPATH'] = before


class Crew:
    """Trains cells in processes of their own until none is left.

    Several crews, in several processes, can share one campaign: a cell is
    claimed by a lock that lives as long as its claimant.

    Args:
        cells: What to train, each after those that it needs.
        ledger: Where results go.
        locks: Folder of the locks.
        settings: How to run.
        tell: Called with each finished or failed cell, its record and all
            records so far.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        ledger: Ledger,
        locks: Path,
        settings: Settings,
        tell: Callable[[Cell, Record, Sequence[Record]], None],
    ) -> None:
        self.cells = cells
        self.ledger = ledger
        self.locks = locks
        self.settings = settings
        self.tell = tell
        self._running: list[_Running] = []
        # What failed before is tried again; what fails from now on is not.
        self._earlier = len(ledger.read())

    def run(self) -> dict[str, str]:
        """Return how each cell has ended, by name.

        Whatever is raised, also by Ctrl-C: the processes are ended first and
        can be continued later.
        """
        try:
            while True:
                self._reap()
                records = self.ledger.read()
                states = self.states(records)
                if not self._running and OPEN not in states.values():
                    return states
                if not self._start_one(states):
                    time.sleep(POLL_SECONDS)
        finally:
            self._stop()

    def states(self, records: Sequence[Record]) -> dict[str, str]:
        """Return the state of each cell by name; open: still to be run.

        A finished cell is open again if a cell that starts from it is open
        and its checkpoint is gone, or is another configuration's.
        """
        states: dict[str, str] = {}
        wanted: set[str] = set()
        for cell in reversed(self.cells):
            states[cell.name] = self._state(cell, records, wanted)
            if states[cell.name] == OPEN:
                wanted.update(other.name for other in cell.needs.values())
        return {cell.name: states[cell.name] for cell in self.cells}

    def _state(
        self, cell: Cell, records: Sequence[Record], wanted: set[str]
    ) -> str:
        found = finished_record(records, cell.hash, self.settings.test)
        gone = cell.name in wanted and not _has_checkpoint(cell)
        if found is not None and not gone:
            return FINISHED
        for record in records[self._earlier :]:
            if record['hash'] == cell.hash and record['status'] != FINISHED:
                return str(record['status'])
        return OPEN

    def _start_one(self, states: Mapping[str, str]) -> bool:
        """Start, or settle, the first cell that can be; say if there is."""
        at_work = {one.cell.name for one in self._running}
        if len(at_work) == self.settings.processes:
            return False
        for cell in self.cells:
            if states[cell.name] != OPEN or cell.name in at_work:
                continue
            needed = {states[c.name] for c in cell.needs.values()}
            if OPEN in needed:
                continue
            with contextlib.suppress(WorkDirBusy), ExitStack() as stack:
                stack.enter_context(exclusive(self.locks, 0, cell.claim_lock))
                # Another crew may have settled it before we had the claim.
                records = self.ledger.read()
                if self.states(records)[cell.name] != OPEN:
                    return True
                if needed - {FINISHED}:
                    self._block(cell, states)
                elif not self._finished_before(cell, records):
                    self._start(cell, records, stack.pop_all())
                return True
        return False

    def _finished_before(self, cell: Cell, records: Sequence[Record]) -> bool:
        """Record a cell whose crew was killed between its end and this."""
        marker = read_marker(cell.folder, cell.hash)
        if marker is None or not cell.checkpoint.is_file():
            return False
        if self._wants_test(cell, records) and marker['test'] is None:
            return False
        self._record(cell, FINISHED, marker)
        return True

    def _start(
        self, cell: Cell, records: Sequence[Record], claim: ExitStack
    ) -> None:
        job = Job(
            config=str(cell.arm.arm.config),
            options=cell.options,
            inputs=tuple(cell.needs),
            config_hash=cell.config_hash,
            folder=cell.folder,
            lock=cell.work_lock,
            locks=self.locks,
            digest=cell.hash,
            epochs=cell.arm.epochs,
            metric=self.settings.metric,
            test=self._wants_test(cell, records),
            threads=self.settings.threads,
            keep_images=self.settings.keep_images,
        )
        log_start = 0
        if read_marker(cell.folder, cell.hash, STARTED) is not None:
            log_start = (cell.folder / LOG).stat().st_size
        process = _context().Process(target=work, args=(job,))
        process.start()
        self._running.append(_Running(cell, process, claim, log_start))

    def _wants_test(self, cell: Cell, records: Sequence[Record]) -> bool:
        tested = finished_record(records, cell.hash, test=True)
        return self.settings.test and tested is None

    def _reap(self) -> None:
        """Record the cells whose processes have ended; free their claims."""
        for one in list(self._running):
            if one.process.is_alive():
                continue
            self._running.remove(one)
            with one.claim:
                self._settle(one)

    def _settle(self, one: _Running) -> None:
        cell = one.cell
        code = one.process.exitcode or 0
        marker = read_marker(cell.folder, cell.hash)
        if code == 0 and marker is not None:
            self._record(cell, FINISHED, marker)
            return
        log = cell.folder / LOG
        text = tail(log, one.log_start) if log.is_file() else ''
        error = f'ended with {status_text(code)}. The end of {log}:\n\n{text}'
        work_dir = self.ledger.path.parent
        self._record(cell, FAILED, dict(error=portable(error, work_dir)))

    def _block(self, cell: Cell, states: Mapping[str, str]) -> None:
        names = [
            other.name
            for other in cell.needs.values()
            if states[other.name] != FINISHED
        ]
        error = f'not started: it needs {", ".join(names)}, which failed.'
        self._record(cell, BLOCKED, dict(error=error))

    def _record(self, cell: Cell, status: str, content: Record) -> None:
        arm = cell.arm
        record = dict(
            arm=arm.name,
            seed=cell.seed,
            status=status,
            epochs=arm.epochs,
            own_multiply_adds=arm.own_multiply_adds,
            total_multiply_adds=arm.total_multiply_adds,
            **{'code': CODE, **content, 'hash': cell.hash},
        )
        self.ledger.append(record)
        self.tell(cell, record, self.ledger.read())

    def _stop(self) -> None:
        for one in self._running:
            one.process.terminate()
        for one in self._running:
            one.process.join(10)
            if one.process.is_alive():
                one.process.kill()
                one.process.join()
            one.claim.close()
        self._running.clear()


def _context() -> Any:
    return multiprocessing.get_context(METHOD)


def _has_checkpoint(cell: Cell) -> bool:
    """Whether the weights that a cell ends with are there.

    The folder may be of the same arm and seed in another configuration.
    """
    ours = read_marker(cell.folder, cell.hash) is not None
    return ours and cell.checkpoint.is_file()
