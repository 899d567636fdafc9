# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The whole pipeline, for real: killed, continued, skipped, and its report.

One pipeline of a few epochs on the digits serves all tests.
"""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmpretrain.registry import DATASETS, MODELS

from reducenet_mm.experiments.kills.outcome import differences, outcome
from tests.test_tools.killed import kill_once_there

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / 'configs' / 'pipelines' / 'digits.py'
OPTIONS = [
    'seed=5',
    'stages.0.epochs=2',
    'stages.1.epochs=6',
    'cfg_options.train_dataloader.batch_size=128',
    'cfg_options.train_cfg.val_interval=1',
    'cfg_options.default_hooks.checkpoint.interval=1',
]
RUNS = ('teacher', 'student', 'plain', 'plain_restart')


def command(work_dir: Path, *options: str) -> list[str]:
    tool = str(ROOT / 'tools' / 'reduce.py')
    text = [sys.executable, tool, str(PIPELINE), '--work-dir', str(work_dir)]
    return [*text, '--cfg-options', *OPTIONS, *options]


def stamps(work_dir: Path) -> dict[str, int]:
    """Return the time of the last change of every file of the runs."""
    folders = (work_dir / 'runs', work_dir / 'tests', work_dir / 'student')
    files = [path for folder in folders for path in folder.rglob('*')]
    return {str(path): path.stat().st_mtime_ns for path in files}


@pytest.fixture(scope='module')
def finished(
    tmp_path_factory: pytest.TempPathFactory, process: Callable
) -> SimpleNamespace:
    """A pipeline killed in its second stage, and started again."""
    work_dir = tmp_path_factory.mktemp('pipeline') / 'digits'
    first = work_dir / 'runs' / 'student' / 'epoch_1.pth'
    kill_once_there(command(work_dir), first)
    killed = sorted(str(p.relative_to(work_dir)) for p in work_dir.rglob('*'))
    done = process(*command(work_dir))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((work_dir / 'report.json').read_text())
    return SimpleNamespace(
        work_dir=work_dir,
        killed=killed,
        output=done.stdout,
        report=report,
        runs={run['name']: run for run in report['runs']},
        networks={one['name']: one for one in report['networks']},
    )


def test_a_killed_pipeline_is_continued(finished: SimpleNamespace) -> None:
    assert 'runs/teacher/done.json' in finished.killed
    assert 'runs/student/done.json' not in finished.killed
    assert 'report.json' not in finished.killed
    assert 'teacher: finished before, skipped' in finished.output
    assert 'student: continued, 6 epochs' in finished.output
    assert 'plain: started' in finished.output
    sessions = {name: run['sessions'] for name, run in finished.runs.items()}
    assert sessions == dict(teacher=1, student=2, plain=1, plain_restart=1)
    assert '--resume' in finished.runs['student']['command']
    assert 'continued: student.' in finished.report['reading']


def test_a_killed_stage_ends_as_one_that_is_left_alone(
    finished: SimpleNamespace, tmp_path: Path, process: Callable
) -> None:
    words = shlex.split(finished.runs['student']['command'])
    at = words.index('--resume')
    del words[at : at + 2]
    killed = finished.work_dir / 'runs' / 'student'
    words[words.index(str(killed))] = str(tmp_path)
    done = process(*words)
    assert done.returncode == 0, done.stderr
    metric = finished.report['metric']
    one, other = outcome(killed, metric), outcome(tmp_path, metric)
    for key in ('file', 'state_dict', 'optimizer', 'validation'):
        assert one[key]
        assert list(differences(one[key], other[key], key)) == []


def test_every_epoch_was_validated(finished: SimpleNamespace) -> None:
    for name, run in finished.runs.items():
        # The student was killed when epoch 1 had been saved, most likely
        # before it was validated; 0 is the switch.
        first = 0 if name == 'student' else 1
        epochs = [epoch for epoch, _ in run['validation']]
        assert epochs == list(range(first, run['epochs'] + 1))


def test_controls_cost_as_much_as_all_stages(
    finished: SimpleNamespace,
) -> None:
    runs = finished.runs
    total = runs['teacher']['multiply_adds'] + runs['student']['multiply_adds']
    assert finished.report['stages_multiply_adds'] == total
    student = finished.networks['student']
    assert student['training_multiply_adds'] == total
    assert student['training_epochs'] == [2, 6]
    for name in ('plain', 'plain_restart'):
        run = runs[name]
        per_epoch = run['multiply_adds_per_image'] * run['images_per_epoch']
        assert run['multiply_adds'] == per_epoch * run['epochs']
        assert abs(run['multiply_adds'] - total) <= per_epoch / 2
        assert run['budget_ratio'] == run['multiply_adds'] / total
    share = runs['teacher']['multiply_adds'] / total
    first, second = runs['plain_restart']['periods']
    assert first == round(share * (first + second))


def test_the_seed_and_the_schedule_reached_the_runs(
    finished: SimpleNamespace,
) -> None:
    runs = finished.work_dir / 'runs'
    for name in RUNS:
        written = next((runs / name).glob('*.py'))
        cfg = Config.fromfile(written)
        assert cfg.randomness.seed == 5
        assert cfg.train_cfg.max_epochs == finished.runs[name]['epochs']
        assert sum(cfg.param_scheduler.periods) == cfg.train_cfg.max_epochs
    student = Config.fromfile(next((runs / 'student').glob('*.py')))
    teacher = runs / 'teacher' / 'epoch_2.pth'
    assert student.model.teacher_ckpt == str(teacher)


def test_the_exported_student_has_the_reported_accuracy(
    finished: SimpleNamespace,
) -> None:
    folder = finished.work_dir / 'student'
    cfg = Config.fromfile(folder / 'student.py')
    assert cfg.model.backbone.type == 'StudentResNet_CIFAR'
    model = MODELS.build(
        dict(cfg.model, data_preprocessor=cfg.data_preprocessor)
    ).eval()
    saved = torch.load(folder / 'student.pth', weights_only=True)
    model.load_state_dict(saved['state_dict'], strict=True)
    test_set = DATASETS.build(cfg.test_dataloader.dataset)
    batch = pseudo_collate([test_set[i] for i in range(len(test_set))])
    inputs = model.data_preprocessor(batch)['inputs']
    with torch.no_grad():
        predicted = model(inputs).argmax(1)
    labels = torch.cat([one.gt_label for one in batch['data_samples']])
    accuracy = 100 * (predicted == labels).double().mean().item()
    network = finished.networks['student']
    assert network['accuracy'] == pytest.approx(accuracy, abs=1e-3)
    assert network['params'] == sum(p.numel() for p in model.parameters())
    assert finished.report['test_images'] == len(test_set) == 500


def test_every_network_met_the_test_set_once(
    finished: SimpleNamespace,
) -> None:
    for name in RUNS:
        folder = finished.work_dir / 'tests' / name
        assert len(list(folder.glob('*/*.log'))) == 1
        metrics = json.loads((folder / 'metrics.json').read_text())
        network = finished.networks[name]
        assert network['metrics'] == metrics
        assert network['test_evaluations'] == 1
    assert 'student.py' in finished.networks['student']['test_command']


def test_latency_was_measured_side_by_side(
    finished: SimpleNamespace,
) -> None:
    rounds = set()
    for name in ('teacher', 'student', 'plain'):
        for batch in ('1', '64'):
            value = finished.networks[name]['latency'][batch]
            low, high = value['quartiles_ms']
            assert 0 < low <= value['median_ms'] <= high
            rounds.add((batch, value['rounds']))
    assert len(rounds) == 2
    assert finished.networks['plain_restart']['latency'] is None


def test_a_second_run_does_nothing_again(
    finished: SimpleNamespace, process: Callable
) -> None:
    before = stamps(finished.work_dir)
    page = (finished.work_dir / 'report.html').read_bytes()
    done = process(*command(finished.work_dir))
    assert done.returncode == 0, done.stderr
    for name in RUNS:
        assert f'{name}: finished before, skipped' in done.stdout
    assert 'testing' not in done.stdout
    assert stamps(finished.work_dir) == before
    assert (finished.work_dir / 'report.html').read_bytes() == page


def browse(page: Path, profile: Path, *arguments: str) -> str:
    browser = shutil.which('chromium') or shutil.which('google-chrome')
    if browser is None:
        pytest.skip('no chromium or google-chrome is installed')
    flags = (
        '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run '
        '--disable-background-networking --disable-component-update '
        '--disable-sync --window-size=1180,2600'
    ).split()
    done = subprocess.run(
        [browser, *flags, f'--user-data-dir={profile}', *arguments, str(page)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_report_in_a_browser(
    finished: SimpleNamespace, tmp_path: Path
) -> None:
    page = finished.work_dir / 'report.html'
    dom = browse(page, tmp_path / 'profile', '--dump-dom')
    table = re.search(r'<table id="networks">.*?</table>', dom, re.DOTALL)
    assert table is not None
    for network in finished.report['networks']:
        rows = re.findall(r'<tr .*?</tr>', table[0], re.DOTALL)
        row = next(text for text in rows if f'{network["name"]} (' in text)
        assert f'>{network["accuracy"]:.2f}<' in row
        assert f'>{network["params"]:,}<' in row
    text = html.unescape(dom)
    assert finished.report['reading'] in text
    assert dom.count('<svg') == 2
    for label in (
        'validation accuracy, %',
        'cumulative training multiply-adds',
        'test accuracy, %',
    ):
        assert label in text


def test_the_report_is_drawn_in_colour(
    finished: SimpleNamespace, tmp_path: Path
) -> None:
    shot = tmp_path / 'report.png'
    page = finished.work_dir / 'report.html'
    browse(page, tmp_path / 'profile', f'--screenshot={shot}')
    from PIL import Image

    image = Image.open(shot).convert('RGB')
    assert image.size == (1180, 2600)
    found = dict((color, count) for count, color in image.getcolors(1 << 24))
    for wanted in ('#b45309', '#0f766e', '#2563eb', '#9333ea'):
        color = tuple(int(wanted[i : i + 2], 16) for i in (1, 3, 5))
        assert found.get(color, 0) > 100, wanted
