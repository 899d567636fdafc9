# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""tools/analysis_tools/kill_test.py: real kills of real trainings.

The runs here are few; ``docs/results/kills`` has more of them, in each of
the modes in ``kill_modes``.
"""

from __future__ import annotations

import json
import random
import re
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from reducenet_mm.experiments.kills import Kill, Session, hit

HERE = Path(__file__).parent
TOOL = HERE.parents[1] / 'tools' / 'analysis_tools' / 'kill_test.py'
MODES = sorted((HERE / 'kill_modes').glob('*.py'))


@pytest.fixture(scope='module')
def tool() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(TOOL)))


def test_a_killed_student_ends_as_if_it_had_not_been_killed(
    tmp_path: Path, process: Callable, teacher_run: Path
) -> None:
    """Within an epoch, from two workers, averaged, stopped early."""
    config = HERE / 'kill_modes' / 'student_everything.py'
    out = tmp_path / 'result.json'
    done = process(
        *(sys.executable, '-W', 'ignore', TOOL, config),
        *('--kills', '2', '--seed', '10', '--during-writes', '0.5'),
        *('--work-dir', tmp_path / 'runs', '--out', out),
        *('--cfg-options', f'model.teacher_ckpt={teacher_run}'),
        'train_cfg.max_epochs=3',
        'param_scheduler.periods=[3]',
        'custom_hooks.2.patience=1',
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'seed 10: the same moments again with --seed' in done.stdout
    result = json.loads(out.read_text())
    assert result['identical'] is True
    assert result['kills'] == 2
    assert result['iterations'] == 32  # stopped after 2 of 3 epochs
    assert {'state_dict', 'ema_state_dict', 'optimizer'} < set(
        result['compared']
    )
    (run,) = result['runs']
    assert run['wrong'] == []
    assert [kill['in_write'] for kill in run['kills']] == [False, True]
    for kill in run['kills']:
        assert kill['iteration'] >= int(kill['moment'])
        left = re.search(r'\d+', kill['resumed_from'])
        assert left is not None
        # One every 4 iterations; of one cut off, the one before it is left.
        assert 0 <= kill['iteration'] - int(left[0]) <= 4


def test_another_weight_is_noticed(tool: SimpleNamespace) -> None:
    one = dict(
        state_dict=dict(a=torch.zeros(3), b=torch.ones(2)),
        param_schedulers=[dict(last_step=3), dict(last_step=4)],
        validation={1: 50.0},
    )
    other = dict(
        state_dict=dict(a=torch.tensor([0.0, 0.0, 1e-45]), c=torch.ones(2)),
        param_schedulers=[dict(last_step=3), dict(last_step=5)],
        validation={1: 50.0, 2: 60.0},
    )
    assert list(tool.differences(one, one)) == []
    assert list(tool.differences(one, other)) == [
        'state_dict.a',
        'state_dict.b',
        'state_dict.c',
        'param_schedulers.1.last_step',
        'validation.2',
    ]
    half = torch.zeros(3, dtype=torch.float16)
    assert list(tool.differences(torch.zeros(3), half, 'x')) == ['x']


def test_kills_are_drawn_uniformly_and_again_by_the_same_seed(
    tool: SimpleNamespace,
) -> None:
    args = SimpleNamespace(during_writes=0.25)
    kills = tool.draw_kills(random.Random(1), args, 4000, 100)
    assert kills == tool.draw_kills(random.Random(1), args, 4000, 100)
    moments = [kill.moment for kill in kills]
    assert moments == sorted(moments)
    for low in range(0, 100, 20):
        count = sum(low <= moment < low + 20 for moment in moments)
        assert count == pytest.approx(800, abs=100)
    in_write = sum(kill.in_write for kill in kills)
    assert in_write == pytest.approx(1000, abs=110)


def test_a_used_work_dir_is_refused(
    tool: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit) as stopped:
        tool.main([str(MODES[0]), '--work-dir', str(tmp_path)])
    assert stopped.value.code == 2
    assert 'is not empty; give a new one' in capsys.readouterr().err


def test_a_training_that_fails_is_no_success(tmp_path: Path) -> None:
    command = [sys.executable, '-c', 'import sys; sys.exit("out of memory")']
    with Session(command, tmp_path / 'run') as session:
        with pytest.raises(RuntimeError, match='has failed.*\nout of memory'):
            session.finish()


def test_a_run_that_ends_before_a_kill_is_not_counted(tmp_path: Path) -> None:
    kill = Kill(moment=5.5, in_write=False)
    with Session([sys.executable, '-c', ''], tmp_path / 'run') as session:
        assert not hit(session, kill, 0.01)
    assert kill.iteration == -1


def test_a_session_does_not_outlive_its_block(tmp_path: Path) -> None:
    wait = [sys.executable, '-c', 'import time; time.sleep(60)']
    with Session(wait, tmp_path / 'run') as session:
        assert session.process.poll() is None
    assert session.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize('path', MODES, ids=lambda path: path.stem)
def test_every_mode_is_reproducible_and_saved_atomically(path: Path) -> None:
    cfg = Config.fromfile(path)
    assert cfg.default_hooks.checkpoint.backend_args == dict(backend='atomic')
    assert cfg.train_dataloader.sampler.type == 'SeededSampler'
    assert {'exact_resume', 'seeded_step'} < set(cfg.default_hooks)
