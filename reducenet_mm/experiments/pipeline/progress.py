# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Progress on the console: the run at work, and the whole pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..scalars import Latest, latest
from .planned import Run

LINES = 10


class Display:
    """Shows runs as they train, from the scalars that they log.

    On a terminal two bars move: the current run, and the pipeline by
    training cost. Elsewhere a run is about ``LINES`` printed lines.

    Args:
        console: Where to print.
        runs: All runs of the pipeline.
        metric: Name of the logged validation metric.
    """

    def __init__(
        self, console: Console, runs: Sequence[Run], metric: str
    ) -> None:
        self.console = console
        self.metric = metric
        self._total = sum(run.multiply_adds for run in runs)
        self._done = 0.0
        self._printed: tuple[str, int] | None = None
        self._bars = Progress(
            TextColumn('{task.description}', justify='right'),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn('{task.fields[state]}'),
            TimeElapsedColumn(),
            TextColumn('left'),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._whole = self._bars.add_task('pipeline', total=1.0, state='')
        self._current = self._bars.add_task('', visible=False, state='')

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, highlight=False, markup=False)

    def expect(self, done: float, total: float) -> None:
        """Set how much of how many multiply-adds is done.

        Args:
            done: What all runs finished so far have cost.
            total: What all runs will have cost, as is known now.
        """
        self._done, self._total = done, total
        self._bars.update(self._whole, completed=done / total)

    def skip(self, run: Run) -> None:
        """Say that a run was finished before."""
        self.note(f'{run.name}: finished before, skipped')
        self._advance(run)

    def start(self, run: Run, resumed: bool) -> None:
        """Show a run that starts or continues."""
        how = 'continued' if resumed else 'started'
        self.note(
            f'{run.name}: {how}, {run.epochs} epochs, log in {run.work_dir}'
        )
        self._bars.reset(
            self._current,
            description=run.name,
            total=run.epochs * run.cost.iterations_per_epoch,
            visible=True,
            state='',
        )

    def update(self, run: Run) -> None:
        """Show how far a run is."""
        state = latest(run.work_dir, self.metric)
        iterations = run.epochs * run.cost.iterations_per_epoch
        share = min(1.0, state.iteration / iterations)
        self._bars.update(
            self._current,
            completed=state.iteration,
            state=_describe(run, state),
        )
        done = self._done + share * run.multiply_adds
        self._bars.update(self._whole, completed=done / self._total)
        if not self.console.is_terminal:
            self._print_once(run, state)

    def finish(self, run: Run, epochs: int) -> None:
        """Say that a run has ended well, after so many epochs."""
        state = latest(run.work_dir, self.metric)
        early = ' early, as it gained no more' if epochs < run.epochs else ''
        self.note(f'{run.name}: finished{early}, {_describe(run, state)}')
        self._advance(run)

    def _advance(self, run: Run) -> None:
        self._done += run.multiply_adds
        self._bars.update(self._whole, completed=self._done / self._total)
        self._bars.update(self._current, visible=False)

    def _print_once(self, run: Run, state: Latest) -> None:
        tenth = state.epoch * LINES // run.epochs
        if state.epoch and (run.name, tenth) != self._printed:
            self._printed = run.name, tenth
            self.note(f'{run.name}: {_describe(run, state)}')


def _describe(run: Run, state: Latest) -> str:
    parts = [f'epoch {state.epoch}/{run.epochs}']
    if state.loss is not None:
        parts.append(f'loss {state.loss:.3f}')
    if state.accuracy is not None:
        parts.append(f'val {state.accuracy:.2f} %')
    return ', '.join(parts)
