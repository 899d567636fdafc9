# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A campaign from its plan to its report."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from ..estimates import estimate
from ..processes import WorkDirBusy, exclusive
from ..records import STARTED, read_marker
from .arms import needed_arms
from .config import Campaign
from .crew import Crew, Settings
from .ledger import FINISHED, RESULTS, Ledger, finished_record
from .plan import Cell, PlannedArm
from .report import accuracy_text, show_plan, show_report, write_report
from .results import collect


def choose_cells(
    campaign: Campaign,
    cells: Sequence[Cell],
    arms: Sequence[str] | None,
    seeds: Sequence[int] | None,
) -> list[Cell]:
    """Return the cells of some arms, with all that these need, and seeds.

    Args:
        campaign: The campaign.
        cells: All of its cells.
        arms: Names of arms; None means all.
        seeds: Seeds; None means all.

    Raises:
        ValueError: If an arm or a seed is not in the campaign.
    """
    for flag, asked, known in (
        ('--arms', arms, list(campaign.arms)),
        ('--seeds', seeds, list(campaign.seeds)),
    ):
        unknown = [one for one in asked or () if one not in known]
        if unknown:
            raise ValueError(
                f'{flag} {unknown}: not in the campaign, which has {known}.'
            )
    names = set(arms or campaign.arms)
    for name in list(names):
        names.update(needed_arms(campaign.arms, name))
    chosen_seeds = set(seeds or campaign.seeds)
    return [
        cell
        for cell in cells
        if cell.arm.name in names and cell.seed in chosen_seeds
    ]


def run_campaign(
    campaign: Campaign,
    planned: Mapping[str, PlannedArm],
    cells: Sequence[Cell],
    chosen: Sequence[Cell],
    work_dir: Path,
    settings: Settings,
    keep_checkpoints: bool = False,
    console: Console | None = None,
) -> list[str]:
    """Train what is chosen and not done yet; report the whole campaign.

    Args:
        campaign: The campaign.
        planned: Its arms.
        cells: All of its cells.
        chosen: Those to be run.
        work_dir: Folder of all results.
        settings: How to run.
        keep_checkpoints: Whether checkpoints that no cell waits for stay.
        console: Where to show progress; defaults to standard output.

    Returns:
        The names of the chosen cells that failed or were blocked.
    """
    console = console or Console()
    show_plan(planned, campaign.seeds, console)
    ledger = Ledger(work_dir / RESULTS)

    def tell(
        cell: Cell,
        record: Mapping[str, Any],
        records: Sequence[Mapping[str, Any]],
    ) -> None:
        text = ended_text(chosen, settings, cell, record, records)
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    locks = work_dir / 'locks'
    crew = Crew(chosen, ledger, locks, settings, tell)
    states = crew.run()
    if not keep_checkpoints:
        delete_checkpoints(cells, ledger.read(), locks)
    report_campaign(campaign, planned, cells, work_dir, settings, console)
    return [name for name, state in states.items() if state != FINISHED]


def report_campaign(
    campaign: Campaign,
    planned: Mapping[str, PlannedArm],
    cells: Sequence[Cell],
    work_dir: Path,
    settings: Settings,
    console: Console | None = None,
) -> dict[str, Any]:
    """Write and print the report of what is there; return its content."""
    with exclusive(work_dir, name='.report.lock'):
        records = Ledger(work_dir / RESULTS).read()
        content = collect(campaign, planned, cells, records, settings.test)
        write_report(content, work_dir)
    show_report(content, work_dir, console or Console())
    return content


def delete_checkpoints(
    cells: Sequence[Cell],
    records: Sequence[Mapping[str, Any]],
    locks: Path,
) -> None:
    """Delete the checkpoints of finished cells that no cell waits for.

    Without a test result every cell still waits for its own. What a folder
    holds of another configuration, or of a training that goes on, stays.

    Args:
        cells: All cells of the campaign.
        records: All results so far.
        locks: Folder of the cells' locks.
    """
    waiting = [
        cell
        for cell in cells
        if finished_record(records, cell.hash, test=True) is None
    ]
    wanted: set[str] = set()
    while waiting:  # what is needed may have to be trained again itself
        cell = waiting.pop()
        wanted.add(cell.name)
        waiting += cell.needs.values()
    for cell in cells:
        if cell.name in wanted or not any(cell.folder.glob('epoch_*.pth')):
            continue
        with (
            contextlib.suppress(WorkDirBusy),
            exclusive(locks, 0, cell.work_lock),
        ):
            if read_marker(cell.folder, cell.hash, STARTED) is not None:
                for path in cell.folder.glob('epoch_*.pth'):
                    path.unlink(missing_ok=True)


def ended_text(
    cells: Sequence[Cell],
    settings: Settings,
    cell: Cell,
    record: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
) -> str:
    """Return what is printed when one of the cells has ended."""
    results = {
        one.name: finished_record(records, one.hash, settings.test)
        for one in cells
    }
    count = sum(result is not None for result in results.values())
    start = f'[{count}/{len(cells)}] {cell.name}: '
    if record['status'] != FINISHED:
        lines = record['error'].strip().splitlines()
        return f'{start}{record["status"]}: {lines[-1]}'
    metric = settings.metric
    parts = []
    if record['test'] is not None:
        parts.append(f'test {record["test"][metric]:.2f} %')
    if record['val'] is not None:
        parts.append(f'val {record["val"]:.2f} %')
    parts.append(f'{record["seconds"]:.0f} s')
    of_arm = (
        results[one.name] for one in cells if one.arm.name == cell.arm.name
    )
    values = [
        result['test'][metric] if settings.test else result['val']
        for result in of_arm
        if result is not None
    ]
    text = start + ', '.join(parts)
    if None in values:  # not tested, and the config has no validation
        return text
    so_far = accuracy_text(asdict(estimate(values)))
    return f'{text}; {cell.arm.name} so far {so_far} % (n = {len(values)})'
