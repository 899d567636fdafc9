# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Stages, controls, export, test, latency and report, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from rich.console import Console
from torch import nn

from reducenet_mm.engine.preflight import check_config, read_weights
from reducenet_mm.export.forms import WEIGHTS
from reducenet_mm.export.plain_config import CONFIG_FILE

from ..benchmarks.latency import BATCH_SIZES, conditions, measure_latency
from ..processes import RunFailed, exclusive
from ..records import content_hash, read_marker, write_marker
from .config import Pipeline
from .evaluate import Candidate, evaluate_once
from .handover import export_once
from .plan import fit_controls
from .planned import Run
from .progress import Display
from .report import show_plan, show_report, write_report
from .results import Outcome, collect
from .runs import Finished, Workshop, finish_run
from .stages import Course, run_stages


def run_pipeline(
    pipeline: Pipeline,
    runs: Sequence[Run],
    work_dir: Path,
    tools_dir: Path,
    console: Console | None = None,
) -> dict[str, Any]:
    """Do whatever of a pipeline is not done yet; write its report.

    It can be killed at any moment: called again with the same arguments, it
    continues. The student is exported to ``<work_dir>/student``.

    Args:
        pipeline: The pipeline.
        runs: Its plan, from :func:`~.plan.plan_runs`.
        work_dir: Folder of all results.
        tools_dir: Folder of ``train.py`` and ``test.py``.
        console: Where to show progress; defaults to standard output.

    Returns:
        The content of ``report.json``.

    Raises:
        RunFailed: If a training or a test ends with an error.
        ParityError: If the student cannot be exported as it is.
        WorkDirBusy: If another process is at work in ``work_dir``.
    """
    console = console or Console()
    stages = [run for run in runs if run.role != 'control']
    controls = [run for run in runs if run.role == 'control']
    with exclusive(work_dir) as lock_fd:
        show_plan(runs, console, pipeline.until is not None)
        with Display(console, runs, pipeline.metric) as display:
            workshop = Workshop(tools_dir, display, lock_fd)
            course = run_stages(pipeline, stages, work_dir, workshop)
            controls = _fit(pipeline, controls, course, display)
            finished = list(course.finished)
            finished += [finish_run(run, {}, workshop) for run in controls]
            folder = work_dir / 'student'
            export = export_once(course.shipped, folder, display)
            candidates = _candidates(finished, course.shipped, folder)
            tests = {
                one.name: evaluate_once(
                    one, work_dir / 'tests' / one.name, workshop
                )
                for one in candidates
            }
            latency = _latency(candidates, finished, work_dir, display)
        outcome = Outcome(finished, course, candidates, tests, latency, export)
        content = collect(pipeline, outcome)
        write_report(content, work_dir)
    show_report(content, work_dir, console)
    return content


def _fit(
    pipeline: Pipeline, controls: list[Run], course: Course, display: Display
) -> list[Run]:
    """Return the controls at the cost that the stages really had."""
    if pipeline.until is None:
        return controls
    try:
        controls = fit_controls(pipeline, controls, course.spent)
    except ValueError as error:
        raise RunFailed(str(error)) from error
    spent = sum(course.spent.values())
    for run in controls:
        display.note(
            f'{run.name}: {run.epochs} epochs, {run.budget_ratio:.3f} times '
            'what the stages have cost'
        )
    total = spent + sum(run.multiply_adds for run in controls)
    display.expect(spent, total)
    return controls


def _candidates(
    finished: Sequence[Finished], shipped: Finished, exported: Path
) -> list[Candidate]:
    """Return the networks to compare: all but students not shipped."""
    candidates = []
    for one in finished:
        run = one.run
        if run.role != 'student':
            candidates.append(
                Candidate(
                    run.name, run.config, run.options, run.cfg, one.checkpoint
                )
            )
        elif one is shipped:
            config = exported / CONFIG_FILE
            weights = exported / WEIGHTS
            cfg = Config.fromfile(config)
            candidates.append(Candidate(run.name, config, {}, cfg, weights))
    return candidates


def _latency(
    candidates: Sequence[Candidate],
    finished: Sequence[Finished],
    work_dir: Path,
    display: Display,
) -> dict[str, Any]:
    """Measure all networks; of controls alike only the first one."""
    controls = {one.run.name for one in finished if one.run.role == 'control'}
    distinct: dict[str, Candidate] = {}
    for one in candidates:
        is_control = one.name in controls
        key = content_hash(one.cfg.model.to_dict()) if is_control else one.name
        distinct.setdefault(key, one)
    shape = finished[0].run.cost.input_shape
    digest = content_hash(
        dict(
            networks=list(distinct),
            batch_sizes=BATCH_SIZES,
            input_shape=shape,
            sha256=[one.sha256 for one in finished],
        )
    )
    marker = read_marker(work_dir, digest, 'latency.json')
    if marker is not None:
        return marker
    device = 'cuda' if get_device() == 'cuda' else 'cpu'
    display.note(f'measuring latency on {device}')
    networks = {one.name: load_network(one) for one in distinct.values()}
    state = conditions(device)
    measured = measure_latency(networks, shape, device=device)
    content = dict(
        conditions=state,
        networks={
            name: {str(batch): asdict(value) for batch, value in by.items()}
            for name, by in measured.items()
        },
    )
    return write_marker(work_dir, digest, content, 'latency.json')


def load_network(candidate: Candidate) -> nn.Module:
    """Build a network and load its weights, strictly."""
    model = check_config(candidate.cfg, (), init_weights=False)
    weights = read_weights(str(candidate.checkpoint))
    model.load_state_dict(weights, strict=True)
    return model
