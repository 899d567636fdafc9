# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Grow, shrink, and on until the student saturates: for real, and killed.

One pipeline of a few epochs on the digits serves all tests. Its stage
``idle`` cannot gain anything, as its learning rate is 0.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config

from reducenet_mm.engine.preflight import check_config, read_weights
from reducenet_mm.experiments.pipeline.planned import read_run_config
from tests.test_tools.killed import kill_once_there

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / 'configs' / 'reducenet' / 'digits'
TEACHER = DIGITS / 'reducenet8-w16-e4_digits_teacher.py'
PLAIN = DIGITS / 'plain8-w16_digits.py'
STUDENT = DIGITS / 'reducenet8-w16-e4_digits_student.py'
LORA = DIGITS / 'reducenet8-w16-e4_digits_lora.py'
NARROW = {'model.backbone.base_channels': 8, 'model.head.in_channels': 32}
GROWN = {
    **NARROW,
    'model.backbone.expansion': 2,
    'model.backbone.zero_init_expand': True,
}
DISTIL = {
    'model.architecture.backbone.base_channels': 8,
    'model.architecture.backbone.expansion': 2,
    'model.architecture.head.in_channels': 32,
}
IDLE = {
    **DISTIL,
    'model.norm_stats': 'inherited',
    'optim_wrapper.optimizer.lr': 0,
}
PIPELINE: dict[str, Any] = dict(
    stages=[
        dict(name='small', config=str(PLAIN), epochs=1, cfg_options=NARROW),
        dict(
            name='teacher',
            config=str(TEACHER),
            epochs=2,
            load_from='small',
            cfg_options=GROWN,
        ),
        dict(name='lora', config=str(LORA), epochs=2, cfg_options=DISTIL),
        dict(name='idle', config=str(STUDENT), epochs=6, cfg_options=IDLE),
        dict(name='never', config=str(STUDENT), epochs=6, cfg_options=IDLE),
    ],
    controls=[
        dict(
            name='plain',
            config=str(PLAIN),
            restart_at='lora',
            cfg_options=NARROW,
        ),
    ],
    until=dict(min_gain=0.5, patience=2, beyond_teacher=True),
    cfg_options={
        'train_dataloader.batch_size': 256,
        'train_cfg.val_interval': 1,
    },
)


def command(pipeline: Path) -> list[str]:
    tool = str(ROOT / 'tools' / 'reduce.py')
    work_dir = str(pipeline.with_name('work'))
    return [sys.executable, tool, str(pipeline), '--work-dir', work_dir]


def start_again(pipeline: Path) -> subprocess.CompletedProcess:
    """Run the pipeline to its end."""
    return subprocess.run(
        command(pipeline),
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        text=True,
        capture_output=True,
        timeout=900,
    )


@pytest.fixture(scope='module')
def finished(
    tmp_path_factory: pytest.TempPathFactory,
) -> SimpleNamespace:
    """The pipeline, killed in its second student stage and started again."""
    pipeline = tmp_path_factory.mktemp('until') / 'pipeline.py'
    lines = (f'{key} = {value!r}\n' for key, value in PIPELINE.items())
    pipeline.write_text(''.join(lines))
    work_dir = pipeline.with_name('work')
    first = work_dir / 'runs' / 'idle' / 'epoch_1.pth'
    kill_once_there(command(pipeline), first)
    assert not (work_dir / 'runs' / 'idle' / 'done.json').exists()
    done = start_again(pipeline)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((work_dir / 'report.json').read_text())
    return SimpleNamespace(
        pipeline=pipeline,
        work_dir=work_dir,
        output=done.stdout,
        report=report,
        runs={run['name']: run for run in report['runs']},
        networks={one['name']: one for one in report['networks']},
    )


def test_a_flat_stage_ends_early_also_if_it_was_killed(
    finished: SimpleNamespace,
) -> None:
    """1 epoch to compare with, 2 to wait, whether killed between or not."""
    idle = finished.runs['idle']
    assert (idle['epochs'], idle['planned_epochs']) == (3, 6)
    assert idle['sessions'] == 2
    assert [epoch for epoch, _ in idle['validation']] == [0, 1, 2, 3]
    assert 'idle: continued, 6 epochs' in finished.output
    assert 'idle: finished early, as it gained no more' in finished.output
    assert finished.runs['lora']['epochs'] == 2


def test_a_stage_that_gains_too_little_ends_the_pipeline(
    finished: SimpleNamespace,
) -> None:
    stages = finished.report['stages']
    assert stages['end'].startswith(
        'idle changed the best student by +0.00 points (lora: '
    )
    assert stages['skipped'] == ['never']
    assert not (finished.work_dir / 'runs' / 'never').exists()
    assert 'lora is shipped; skipped: never.' in finished.output


def test_the_next_stage_starts_from_the_merged_student(
    finished: SimpleNamespace,
) -> None:
    """``idle`` has no lora branch and yet starts where ``lora`` ended."""
    lora, idle = finished.report['stages']['students']
    curve = finished.runs['idle']['validation']
    assert len({accuracy for _, accuracy in curve}) == 1
    assert idle['start'] == idle['accuracy'] == lora['accuracy']
    start = finished.work_dir / 'merged' / 'lora' / 'student.pth'
    assert f'model.student_init={start}' in finished.runs['idle']['command']
    written = next((finished.work_dir / 'runs' / 'idle').glob('*.py'))
    assert Config.fromfile(written).model.architecture.backbone.get(
        'lora'
    ) is (None)


def test_the_best_student_is_shipped_and_not_the_last(
    finished: SimpleNamespace,
) -> None:
    assert [network['name'] for network in finished.report['networks']] == [
        'small',
        'teacher',
        'lora',
        'plain',
    ]
    folders = ('merged/lora', 'student')
    weights = [
        read_weights(str(finished.work_dir / folder / 'student.pth'))
        for folder in folders
    ]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    for network in finished.report['networks']:
        assert network['test_evaluations'] == 1


def test_the_control_gets_what_was_really_spent(
    finished: SimpleNamespace,
) -> None:
    runs = finished.runs
    spent = sum(
        epochs
        * runs[name]['multiply_adds_per_image']
        * runs[name]['images_per_epoch']
        for name, epochs in dict(small=1, teacher=2, lora=2, idle=3).items()
    )
    assert finished.report['stages_multiply_adds'] == spent
    student = finished.networks['lora']
    assert student['training_multiply_adds'] == spent
    assert student['training_epochs'] == [1, 2, 2, 3]
    plain = runs['plain']
    per_epoch = plain['multiply_adds'] / plain['epochs']
    assert plain['epochs'] == round(spent / per_epoch)
    before = runs['small']['multiply_adds'] + runs['teacher']['multiply_adds']
    assert plain['periods'][0] == round(plain['epochs'] * before / spent)
    assert plain['validation'][-1][0] == plain['epochs']


def test_a_grown_teacher_begins_as_the_small_network(
    finished: SimpleNamespace,
) -> None:
    runs = finished.work_dir / 'runs'
    small = runs / 'small' / 'epoch_1.pth'
    assert f'load_from={small}' in finished.runs['teacher']['command']
    weights = read_weights(str(small))
    images = torch.randn(4, 1, 8, 8)
    outputs = []
    for config, options in (
        (PLAIN, NARROW),
        (TEACHER, GROWN),
        (TEACHER, {**GROWN, 'model.backbone.zero_init_expand': False}),
    ):
        cfg = read_run_config(config, options)
        model = check_config(cfg, (), init_weights=True).eval()
        model.load_state_dict(weights, strict=False)
        outputs.append(model(images))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=0)
    assert not torch.allclose(outputs[2], outputs[0])
    log = (runs / 'teacher' / 'console.log').read_text()
    assert f'Load checkpoint from {small}' in log


def test_the_report_tells_of_the_stages(finished: SimpleNamespace) -> None:
    lora, _ = finished.report['stages']['students']
    markdown = (finished.work_dir / 'report.md').read_text()
    page = (finished.work_dir / 'report.html').read_text()
    accuracy = f'{lora["accuracy"]:.2f}'
    assert '## Student stages' in markdown
    assert f'| {accuracy} | {accuracy} | +0.00 | 3 of 6 |' in markdown
    assert 'ended early' in markdown
    assert '| never | - |' in markdown
    assert '<table id="stages">' in page
    assert '<td>+0.00</td><td>3 of 6</td>' in page
    for text in (markdown, page):
        assert 'The end: idle changed the best student by +0.00' in text
        assert 'Not trained: never.' in text


def test_a_second_run_comes_to_the_same_end(
    finished: SimpleNamespace,
) -> None:
    page = (finished.work_dir / 'report.html').read_bytes()
    done = start_again(finished.pipeline)
    assert done.returncode == 0, done.stderr
    for name in ('small', 'teacher', 'lora', 'idle', 'plain'):
        assert f'{name}: finished before, skipped' in done.stdout
    assert 'started' not in done.stdout
    assert (finished.work_dir / 'report.html').read_bytes() == page
