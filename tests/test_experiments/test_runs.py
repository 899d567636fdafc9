# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Runs are done once, continued where they stopped, and redone if changed.

The training tool here is a small program that keeps to the real one's
command line and files; ``test_tools/test_reduce.py`` uses the real one.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from reducenet_mm.experiments.code_version import code_version
from reducenet_mm.experiments.cost import TrainingCost
from reducenet_mm.experiments.pipeline.planned import Run, read_run_config
from reducenet_mm.experiments.pipeline.progress import Display
from reducenet_mm.experiments.pipeline.runs import (
    Finished,
    Workshop,
    finish_run,
    newest_checkpoint,
)
from reducenet_mm.experiments.processes import RunFailed

TRAIN = """
import argparse, json, pathlib, re, sys, zipfile
parser = argparse.ArgumentParser()
parser.add_argument('config')
parser.add_argument('--work-dir', type=pathlib.Path)
parser.add_argument('--resume')
parser.add_argument('--cfg-options', nargs='+')
args = parser.parse_args()
options = dict(text.split('=') for text in args.cfg_options)
start = 0
if args.resume:
    start = int(re.search(r'epoch_(\\d+)', args.resume)[1])
sessions = len(list(args.work_dir.glob('*/vis_data')))
log = args.work_dir / str(sessions) / 'vis_data' / 'scalars.json'
log.parent.mkdir(parents=True)
with open(args.work_dir / 'calls.jsonl', 'a') as calls:
    calls.write(json.dumps([start, options]) + '\\n')
for epoch in range(start + 1, int(options['epochs']) + 1):
    if epoch == int(options.get('crash', 0)) and not sessions:
        sys.exit('out of memory')
    with open(log, 'a') as file:
        row = dict(loss=1 / epoch, epoch=epoch, step=10 * epoch)
        file.write(json.dumps(row) + '\\n')
    name = args.work_dir / f'epoch_{epoch}.pth'
    with zipfile.ZipFile(name, 'w') as file:
        file.writestr('weights', f'{options} {epoch}')
"""


@pytest.fixture
def bench(tmp_path: Path):
    """A run of three epochs, a workshop, and what is printed."""
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'train.py').write_text(TRAIN)
    config = tmp_path / 'a.py'
    config.touch()

    def make(**options: Any) -> Run:
        options = {'epochs': 3, **options}
        return Run(
            name='teacher',
            role='teacher',
            config=config,
            options=options,
            cfg=read_run_config(config, options),
            work_dir=tmp_path / 'runs' / 'teacher',
            epochs=options['epochs'],
            cost=TrainingCost(5.0, 100, 10, (1, 8, 8)),
        )

    printed = io.StringIO()
    display = Display(Console(file=printed, width=200), [make()], 'acc')
    return make, Workshop(tmp_path / 'tools', display), printed


def calls(run: Run) -> list:
    lines = (run.work_dir / 'calls.jsonl').read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_finished_run_is_skipped(bench: Any) -> None:
    make, workshop, printed = bench
    first = finish_run(make(), {}, workshop)
    assert first.checkpoint.name == 'epoch_3.pth'
    assert first.sessions == 1
    assert first.codes == (code_version(),)
    again = finish_run(make(), {}, workshop)
    assert (again.checkpoint, again.sha256) == (first.checkpoint, first.sha256)
    assert again.codes == first.codes
    assert calls(make()) == [[0, {'epochs': '3'}]]
    assert 'teacher: epoch 3/3, loss 0.333' in printed.getvalue()
    assert 'teacher: finished before, skipped' in printed.getvalue()


def test_a_failed_run_is_continued_from_its_last_checkpoint(
    bench: Any,
) -> None:
    make, workshop, _ = bench
    run = make(crash=3)
    with pytest.raises(RunFailed, match='out of memory'):
        finish_run(run, {}, workshop)
    assert not (run.work_dir / 'done.json').exists()
    started = json.loads((run.work_dir / 'started.json').read_text())
    started['code'] = dict(commit='abc', dirty=False, packages={})
    (run.work_dir / 'started.json').write_text(json.dumps(started))
    finished = finish_run(run, {}, workshop)
    assert [start for start, _ in calls(run)] == [0, 2]
    assert finished.sessions == 2
    assert finished.codes == (started['code'], code_version())
    assert '--resume' in finished.command


def test_what_an_earlier_version_did_not_say_is_unknown(bench: Any) -> None:
    make, workshop, _ = bench
    run = make()
    finish_run(run, {}, workshop)
    done = json.loads((run.work_dir / 'done.json').read_text())
    del done['code']
    (run.work_dir / 'done.json').write_text(json.dumps(done))
    assert finish_run(run, {}, workshop).codes == (None,)


def test_a_run_that_starts_from_scratch_again_is_of_one_session(
    bench: Any,
) -> None:
    make, workshop, _ = bench
    run = make(crash=1)
    with pytest.raises(RunFailed):
        finish_run(run, {}, workshop)
    finished = finish_run(run, {}, workshop)
    assert [start for start, _ in calls(run)] == [0, 0]
    assert finished.sessions == 1


def test_a_checkpoint_cut_off_by_a_kill_is_passed_over(bench: Any) -> None:
    make, workshop, _ = bench
    run = make(crash=3)
    with pytest.raises(RunFailed):
        finish_run(run, {}, workshop)
    newest = run.work_dir / 'epoch_2.pth'
    assert newest_checkpoint(run.work_dir) == newest
    newest.write_bytes(newest.read_bytes()[:-10])
    assert newest_checkpoint(run.work_dir) == run.work_dir / 'epoch_1.pth'
    finish_run(run, {}, workshop)
    assert [start for start, _ in calls(run)] == [0, 1]


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / 'epoch_10.pth'
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('weights', 'x' * 100)
    assert newest_checkpoint(tmp_path) == path
    path.write_bytes(path.read_bytes().replace(b'xxx', b'xyx', 1))
    with pytest.raises(ValueError, match='epoch_10.pth damaged'):
        newest_checkpoint(tmp_path)


def test_epoch_10_is_newer_than_epoch_9(tmp_path: Path) -> None:
    for epoch in (9, 10):
        zipfile.ZipFile(tmp_path / f'epoch_{epoch}.pth', 'w').close()
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.name == 'epoch_10.pth'


def test_a_changed_config_is_run_anew(bench: Any) -> None:
    make, workshop, printed = bench
    finish_run(make(), {}, workshop)
    finished = finish_run(make(lr=2), {}, workshop)
    assert calls(make()) == [[0, {'epochs': '3', 'lr': '2'}]]
    assert finished.sessions == 1
    old = make().work_dir.with_name('teacher.old1')
    assert (old / 'epoch_3.pth').is_file()
    assert 'have changed' in printed.getvalue()


def test_a_config_that_changes_meanwhile_ends_the_command(bench: Any) -> None:
    make, workshop, _ = bench
    planned = make()
    planned.config.write_text('batch = 2')
    with pytest.raises(RunFailed, match=r'a\.py has changed since'):
        finish_run(planned, {}, workshop)
    assert not planned.work_dir.exists()
    assert finish_run(make(), {}, workshop).sessions == 1
    planned.config.unlink()
    with pytest.raises(RunFailed, match=r"a\.py' is not there"):
        finish_run(planned, {}, workshop)


def test_changed_inputs_are_run_anew_and_moved_ones_are_not(
    bench: Any, tmp_path: Path
) -> None:
    make, workshop, _ = bench
    teacher = Finished(make(), Path('t/epoch_3.pth'), 'a' * 64, '', 1)
    inputs: Callable = lambda one: {'model.teacher_ckpt': one}  # noqa: E731
    finish_run(make(), inputs(teacher), workshop)
    moved = replace(teacher, checkpoint=Path('elsewhere/epoch_3.pth'))
    finish_run(make(), inputs(moved), workshop)
    wanted = {'epochs': '3', 'model.teacher_ckpt': 't/epoch_3.pth'}
    assert calls(make()) == [[0, wanted]]
    finish_run(make(), inputs(replace(teacher, sha256='b' * 64)), workshop)
    assert calls(make()) == [[0, wanted]]
    assert make().work_dir.with_name('teacher.old1').is_dir()


def test_a_lost_checkpoint_is_trained_again(bench: Any) -> None:
    make, workshop, _ = bench
    finished = finish_run(make(), {}, workshop)
    finished.checkpoint.unlink()
    assert finish_run(make(), {}, workshop).checkpoint.is_file()
    assert [start for start, _ in calls(make())] == [0, 2]


def test_a_run_that_ends_early_is_no_success(bench: Any) -> None:
    make, workshop, _ = bench
    run = replace(make(), epochs=4)
    with pytest.raises(RunFailed, match='without an intact .*epoch_4.pth'):
        finish_run(run, {}, workshop)
    assert not (run.work_dir / 'done.json').exists()
