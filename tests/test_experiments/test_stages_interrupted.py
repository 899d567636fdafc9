# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A pipeline interrupted at any moment, and started again.

Configs, plan, exports, markers and report are real. What a process would do
is done here: trainings write the checkpoints and the validation results of a
script, tests answer with a number. Real ones are killed in
``test_tools/test_reduce_until.py``.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from rich.console import Console

from reducenet_mm.experiments.benchmarks.latency import Latency
from reducenet_mm.experiments.cost import build_model
from reducenet_mm.experiments.pipeline import (
    evaluate,
    handover,
    pipeline,
    report,
    results,
    runs,
)
from reducenet_mm.experiments.pipeline.config import read_pipeline
from reducenet_mm.experiments.pipeline.plan import plan_runs

from .interrupted import Exporter, Interrupter, Processes, Reader

CONFIGS = Path('configs/reducenet/digits').resolve()
NARROW = {'backbone.base_channels': 4, 'head.in_channels': 16}
CONDITIONS = dict(device='cpu', threads=1, cpu_count=1, precision='float32')
LATENCY = Latency(1.0, (0.5, 1.5), 9)
POINTS: list[tuple[Any, str]] = [
    (os, 'replace'),  # all that is written goes through it
    (runs, 'set_aside'),
    (runs, 'validation_curve'),
    *((module, 'sha256_file') for module in (runs, evaluate)),
    *(
        (module, f'{action}_marker')
        for module in (runs, handover, evaluate, pipeline)
        for action in ('read', 'write')
    ),
    *((pipeline, name) for name in ('fit_controls', 'load_network')),
    *((pipeline, name) for name in ('collect', 'write_report')),
]
"""What is interrupted before it is done, beside exports and processes."""


@pytest.fixture(scope='module')
def plan(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A pipeline, its runs, its work dir and the weights that are learned."""
    folder = tmp_path_factory.mktemp('interrupted')
    student = {f'model.architecture.{k}': v for k, v in NARROW.items()}
    network = {f'model.{key}': value for key, value in NARROW.items()}
    leaf = str(CONFIGS / 'reducenet8-w16-e4_digits')
    stages = [
        dict(name='teacher', config=f'{leaf}_teacher.py', epochs=2),
        dict(name='first', config=f'{leaf}_student.py', epochs=4),
        dict(name='second', config=f'{leaf}_lora.py', epochs=3),
        dict(name='third', config=f'{leaf}_student.py', epochs=2),
    ]
    for stage in stages:
        stage['cfg_options'] = network if stage is stages[0] else student
    control = dict(
        name='plain',
        config=str(CONFIGS / 'plain8-w16_digits.py'),
        cfg_options={
            'model.backbone.base_channels': 8,
            'model.head.in_channels': 32,
        },
    )
    content: dict[str, Any] = dict(
        stages=stages,
        controls=[control],
        until=dict(min_gain=0.5, patience=1),
        cfg_options=dict(train_cfg=dict(val_interval=1)),
    )
    path = folder / 'pipeline.py'
    path.write_text(''.join(f'{k} = {v!r}\n' for k, v in content.items()))
    read = read_pipeline(path)
    planned = plan_runs(read, folder / 'work')
    for seed, run in enumerate(planned):
        torch.manual_seed(seed)
        state = dict(state_dict=build_model(run.cfg).state_dict(), meta={})
        torch.save(state, folder / f'{run.name}.pth')
    return SimpleNamespace(
        pipeline=read,
        runs=planned,
        work=folder / 'work',
        weights=folder,
        export=Exporter(folder / 'exported'),
        read_config=Reader(),
    )


@pytest.fixture
def bench(plan: Any, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """``bench.run(at)`` runs the pipeline, interrupted at that call."""
    point = Interrupter()
    processes = Processes(plan.weights, point)
    for module in (runs, evaluate):
        monkeypatch.setattr(module, 'run_logged', processes.run)
    for owner, name in POINTS:
        function = point.before(getattr(owner, name))
        monkeypatch.setattr(owner, name, function)
    monkeypatch.setattr(handover, 'export_student', point.before(plan.export))
    for name in ('html_page', 'validation_figure', 'tradeoff_figure'):
        monkeypatch.setattr(report, name, lambda content, *_: repr(content))
    monkeypatch.setattr(results, 'count_test_images', lambda cfg: 500)
    # The clock and the machine's load differ from run to run.
    monkeypatch.setattr(pipeline, 'conditions', lambda _: CONDITIONS)
    monkeypatch.setattr(
        pipeline,
        'measure_latency',
        lambda networks, *_, **__: {
            name: dict.fromkeys((1, 64), LATENCY) for name in networks
        },
    )
    monkeypatch.setattr(Config, 'fromfile', plan.read_config)
    monkeypatch.setattr('sys.argv', ['reduce.py', 'pipeline.py'])

    def run(at: int = 0) -> dict[str, Any] | None:
        """Return the report's content, or None if interrupted."""
        point.at, point.calls, point.names = at, 0, []
        console = Console(file=io.StringIO())
        try:
            return pipeline.run_pipeline(
                plan.pipeline, plan.runs, plan.work, Path('tools'), console
            )
        except KeyboardInterrupt:
            return None

    def clean() -> None:
        shutil.rmtree(plan.work, ignore_errors=True)
        processes.trained, processes.tested = [], []

    clean()
    return SimpleNamespace(
        run=run, clean=clean, point=point, processes=processes, work=plan.work
    )


def left(work: Path) -> dict[str, str]:
    """What a finished pipeline has left, but for how it came to be."""
    paths = [work / 'report.json', work / 'report.md']
    for name in ('student', 'merged'):
        paths += [path for path in (work / name).rglob('*') if path.is_file()]
    assert not list(work.rglob('*.partial'))
    interruptions = (
        r' --resume \S+| Interrupted and continued: [^.]*\.|"sessions": \d+'
    )
    return {
        str(path.relative_to(work)): re.sub(
            interruptions, '', path.read_bytes().decode('latin1')
        )
        for path in paths
    }


@pytest.fixture
def whole(bench: SimpleNamespace) -> SimpleNamespace:
    """What comes of it undisturbed, and all points on the way."""
    content = bench.run()
    found = SimpleNamespace(
        stages=content['stages'],
        left=left(bench.work),
        names=bench.point.names,
        trained=bench.processes.trained,
    )
    bench.clean()
    return found


def test_all_kinds_of_work_can_be_interrupted(whole: SimpleNamespace) -> None:
    processes = {'start', 'epoch', 'end'}
    names = {name for _, name in POINTS}
    assert set(whole.names) == names | processes | {'export_student'}
    first, second = whole.stages['students']
    assert (first['epochs'], second['epochs']) == (3, 3)
    assert first['shipped'] and not second['shipped']
    assert whole.stages['skipped'] == ['third']
    assert ('plain', 3) in whole.trained
    weights = {'student/student.pth', 'merged/first/student.pth'}
    assert weights < whole.left.keys()


def test_interrupted_anywhere_it_comes_to_the_same_end(
    bench: SimpleNamespace, whole: SimpleNamespace
) -> None:
    for at, name in enumerate(whole.names, 1):
        where = f'before {name}, call {at}'
        bench.clean()
        assert not bench.run(at), where
        content = bench.run()
        assert content, where
        assert left(bench.work) == whole.left, where
        assert bench.processes.trained == whole.trained, where
        sessions = [run['sessions'] for run in content['runs']]
        assert max(sessions) <= 2 and sum(sessions) <= 5, where
        # Only a test without a marker is repeated.
        assert len(bench.processes.tested) <= 4, where


def test_interrupted_again_and_again_it_comes_to_the_same_end(
    bench: SimpleNamespace, whole: SimpleNamespace
) -> None:
    """Each session gets one call further than the one before."""
    at = 1
    while not bench.run(at):
        at += 1
    assert at > 20
    assert left(bench.work) == whole.left
    assert bench.processes.trained == whole.trained


def test_an_interrupted_start_is_no_change_of_the_config(
    bench: SimpleNamespace, whole: SimpleNamespace
) -> None:
    """The folder is there, but nothing in it that was worth keeping."""
    assert not bench.run(whole.names.index('replace') + 1)
    assert bench.run()
    assert not list(bench.work.glob('runs/*.old*'))
