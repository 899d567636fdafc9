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
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from reducenet_mm.experiments.code_version import code_version
from reducenet_mm.experiments.kills.outcome import differences, runtime_info
from reducenet_mm.experiments.kills.sessions import (
    FRESH_START,
    KINDS,
    RESUMED_START,
    TO_CHECKPOINT,
    UNIFORM,
    WRITE,
    Kill,
    Pace,
    Session,
    draw_runs,
    hit,
)

HERE = Path(__file__).parent
TOOL = HERE.parents[1] / 'tools' / 'analysis_tools' / 'kill_test.py'
SEED = 44
PACE = Pace(start_up=0.4, step=0.01)


@pytest.fixture(scope='module')
def tool() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(TOOL)))


def test_a_killed_student_ends_as_if_it_had_not_been_killed(
    tmp_path: Path, process: Callable, teacher_run: Path
) -> None:
    """Within an epoch, from two workers, averaged, stopped early."""
    config = HERE / 'kill_modes' / 'student_everything.py'
    out = tmp_path / 'new' / 'result.json'
    done = process(
        *(sys.executable, '-W', 'ignore', TOOL, config),
        *('--kills', '1', '--in-writes', '1', '--at-starts', '2'),
        *('--seed', str(SEED)),
        *('--work-dir', tmp_path / 'runs', '--out', out),
        *('--cfg-options', f'model.teacher_ckpt={teacher_run}'),
        'train_cfg.max_epochs=3',
        'param_scheduler.periods=[3]',
        'custom_hooks.2.patience=1',
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = f'seed {SEED}: the same moments again with --seed'
    assert said in done.stdout
    result = json.loads(out.read_text())
    assert result['identical'] is True
    assert result['kills'] == 4
    wanted = dict.fromkeys(KINDS, 1)
    assert result['kills_by_kind'] == result['kills_wanted'] == wanted
    assert result['code'] == code_version()
    assert result['iterations'] == 32  # stopped after 2 of 3 epochs
    assert {'state_dict', 'ema_state_dict', 'optimizer', 'runtime_info'} < set(
        result['compared']
    )
    assert {'keep_ckpt_ids', 'last_ckpt', 'seed', 'sampler_seed'} <= set(
        result['runtime_info_compared']
    )
    assert all(run['wrong'] == [] for run in result['runs'])
    runs = [[Kill(**kill) for kill in run['kills']] for run in result['runs']]
    assert_drawn_by_the_seed(runs, wanted, result['iterations'])
    kills = sum(runs, [])
    counted = {kill.kind: kill for kill in kills if kill.counts()}
    assert counted.keys() == set(KINDS)
    assert result['not_counted'] == len(kills) - 4
    for kind in (FRESH_START, RESUMED_START):
        drawn = counted[kind].moment * result['start_up_seconds']
        assert drawn <= counted[kind].seconds < drawn + 5
    assert counted[FRESH_START].resumed_from is None
    assert counted[RESUMED_START].resumed_from is not None
    for kind in (UNIFORM, WRITE):
        assert counted[kind].iteration >= int(counted[kind].moment)
    write = counted[WRITE]
    assert write.hit_write
    # One every 4 iterations; of one cut off, the one before it is left.
    left = re.search(r'\d+', write.resumed_from or '0')
    assert left is not None
    assert 0 < write.iteration - int(left[0]) <= 4


def assert_drawn_by_the_seed(
    runs: list[list[Kill]], wanted: dict[str, int], iterations: int
) -> None:
    """Draw again what was drawn, and anew what did not count."""
    rng = random.Random(SEED)
    missing, left = Counter(wanted), iter(runs)
    while missing:
        for drawn in draw_runs(rng, missing, 3, iterations):
            kills = [one for one in next(left) if one.kind != TO_CHECKPOINT]
            moments = [(one.kind, one.moment) for one in drawn]
            # A run that ends before is spared the rest.
            made = [(one.kind, one.moment) for one in kills]
            assert made == moments[: len(made)]
            missing -= Counter(one.kind for one in kills if one.counts())
    assert not list(left)


def test_another_weight_is_noticed() -> None:
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
    assert list(differences(one, one)) == []
    assert list(differences(one, other)) == [
        'state_dict.a',
        'state_dict.b',
        'state_dict.c',
        'param_schedulers.1.last_step',
        'validation.2',
    ]
    half = torch.zeros(3, dtype=torch.float16)
    assert list(differences(torch.zeros(3), half, 'x')) == ['x']


def test_the_best_score_is_compared_without_times_and_paths() -> None:
    def info(folder: str, best: float) -> dict:
        hub = dict(
            cfg=f'work_dir = {folder!r}',
            experiment_name=f'teacher_{folder}',
            eta=len(folder),
            loop_stage='val',
            best_score=best,
            best_ckpt=f'/{folder}/best_epoch_2.pth',
            learned_mask=dict(dropped=['layer3']),
            keep_ckpt_ids=[5, 6],
        )
        return runtime_info(dict(message_hub=dict(runtime_info=hub)))

    assert info('runs/1', 50.0) == dict(
        best_score=50.0,
        best_ckpt='best_epoch_2.pth',
        learned_mask=dict(dropped=['layer3']),
        keep_ckpt_ids=[5, 6],
    )
    assert list(differences(info('runs/1', 5.0), info('run2', 5.0))) == []
    other = differences(info('runs/1', 5.0), info('run2', 5.1))
    assert list(other) == ['best_score']


@pytest.mark.parametrize('kind', [UNIFORM, WRITE])
def test_kills_are_drawn_uniformly_and_again_by_the_same_seed(
    kind: str,
) -> None:
    runs = draw_runs(random.Random(1), {kind: 4000}, 3, 100)
    assert runs == draw_runs(random.Random(1), {kind: 4000}, 3, 100)
    assert runs != draw_runs(random.Random(2), {kind: 4000}, 3, 100)
    moments = [[kill.moment for kill in run] for run in runs]
    assert moments == [sorted(run) for run in moments]
    assert {len(run) for run in moments} == {3, 1}
    together = sum(moments, [])
    for low in range(0, 100, 20):
        count = sum(low <= moment < low + 20 for moment in together)
        assert count == pytest.approx(800, abs=100)


def test_starts_are_drawn_uniformly_over_the_start_up() -> None:
    wanted = {FRESH_START: 500, RESUMED_START: 500}
    kills = sum(draw_runs(random.Random(1), wanted, 3, 100), [])
    for kind, count in wanted.items():
        moments = [kill.moment for kill in kills if kill.kind == kind]
        assert len(moments) == count
        for part in range(5):
            found = sum(part <= 5 * moment < part + 1 for moment in moments)
            assert found == pytest.approx(100, abs=30)


def test_each_kind_comes_as_often_as_wanted_and_where_it_can() -> None:
    wanted = dict(zip(KINDS, (5, 2, 3, 3), strict=True))
    places = set()
    for seed in range(30):
        runs = draw_runs(random.Random(seed), wanted, 3, 96)
        kinds = [[kill.kind for kill in run] for run in runs]
        assert Counter(sum(kinds, [])) == wanted
        assert len(runs) == 3  # 3 and 2 uniform kills, 2 in writes
        for run in kinds:
            assert run[0] == FRESH_START
            assert not {UNIFORM, WRITE} <= set(run)
        places.add(kinds[0].index(RESUMED_START))
    assert places == {2, 3, 4}  # after any kill of iterations


def test_only_a_kill_that_came_where_it_was_meant_counts() -> None:
    def counts(kind: str, **happened: object) -> bool:
        return Kill(kind, 0.5, **happened).counts()

    assert counts(UNIFORM, iteration=1)
    assert counts(WRITE, iteration=16, hit_write=True)
    assert not counts(WRITE, iteration=16)
    for kind in (FRESH_START, RESUMED_START):
        assert counts(kind, iteration=0)
        assert not counts(kind, iteration=1)
    assert not any(counts(kind) for kind in KINDS)  # ended before


def test_a_used_work_dir_is_refused(
    tool: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit) as stopped:
        tool.main([__file__, '--work-dir', str(tmp_path)])
    assert stopped.value.code == 2
    assert 'is not empty; give a new one' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ['--metric', 'accuracy/top2'],
            "no validation has logged 'accuracy/top2', but ['accuracy/top1'",
        ),
        (
            ['--cfg-options', 'model.backbone.expanson=2'],
            'unknown key model.backbone.expanson=2',
        ),
    ],
)
def test_a_reference_that_is_none_kills_nothing(
    arguments: list[str],
    message: str,
    tool: SimpleNamespace,
    config: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """The corrected command finds its folder free."""
    work_dir = tmp_path / 'runs'
    options = [*config.teacher_model, *config.schedule(1)]
    if '--cfg-options' not in arguments:
        arguments = [*arguments, '--cfg-options']
    with pytest.raises(SystemExit) as stopped:
        tool.main(
            [config.teacher, '--work-dir', str(work_dir), *arguments, *options]
        )
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert f'Nothing was killed. The folder is now {work_dir}.old1' in said
    assert not work_dir.exists()


def test_a_config_that_does_not_validate_has_no_curve_to_compare(
    tool: SimpleNamespace, config: SimpleNamespace, tmp_path: Path
) -> None:
    loop = ('dataloader', 'evaluator', 'cfg')
    args = tool.parse_args(
        [
            *(config.teacher, '--kills', '1', '--in-writes', '0'),
            *('--at-starts', '0', '--seed', str(SEED), '--cfg-options'),
            *(*config.teacher_model, *config.schedule(1)),
            *(f'val_{part}=None' for part in loop),
        ]
    )
    result = tool.test_config(args, tmp_path)
    assert result['identical'] is True
    assert 'state_dict' in result['compared']
    assert 'validation' not in result['compared']


def test_a_training_that_fails_is_no_success(tmp_path: Path) -> None:
    command = [sys.executable, '-c', 'import sys; sys.exit("out of memory")']
    with Session(command, tmp_path / 'run') as session:
        with pytest.raises(RuntimeError, match='has failed.*\nout of memory'):
            session.finish()


@pytest.mark.parametrize('kind', [UNIFORM, WRITE])
def test_a_kill_waits_for_its_iteration_and_its_write(
    kind: str, tmp_path: Path
) -> None:
    """A process that logs 400 iterations and writes after every 16th."""
    script = """if True:
        import json, os, sys, time
        os.makedirs('now/vis_data')
        log = open('now/vis_data/scalars.json', 'w')
        for step in range(1, 401):
            print(json.dumps(dict(loss=1, step=step)), file=log, flush=True)
            time.sleep(0.005)
            if step % 16 == 0:
                open(f'{step}.pth.partial', 'w').close()
                time.sleep(0.3)
                os.rename(f'{step}.pth.partial', f'iter_{step}.pth')
    """
    kill = Kill(kind, moment=17.5)
    code = f'import os; os.chdir({str(tmp_path)!r})\n{script}'
    with Session([sys.executable, '-c', code], tmp_path) as session:
        assert hit(session, kill, PACE)
    assert kill.counts()
    assert kill.iteration >= 17
    if kind == WRITE:
        assert kill.hit_write and kill.iteration % 16 == 0
        written = f'iter_{kill.iteration - 16}.pth'
        assert {path.name for path in tmp_path.glob('*.pth*')} >= {
            written,
            f'{kill.iteration}.pth.partial',
        }
    assert not (tmp_path / 'iter_400.pth').exists()


@pytest.mark.parametrize('kind', KINDS)
def test_a_run_that_ends_before_a_kill_is_not_counted(
    kind: str, tmp_path: Path
) -> None:
    kill = Kill(kind, moment=5.5)
    with Session([sys.executable, '-c', ''], tmp_path / 'run') as session:
        assert not hit(session, kill, PACE)
    assert kill == Kill(kind, moment=5.5)


def test_a_start_is_killed_at_its_share_of_the_references(
    tmp_path: Path,
) -> None:
    """What an earlier session has left behind is not this one's write."""
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'epoch_1.pth.12.partial').touch()
    kill = Kill(FRESH_START, moment=0.75)
    began = time.monotonic()
    wait = [sys.executable, '-c', 'import time; time.sleep(60)']
    with Session(wait, folder) as session:
        assert hit(session, kill, PACE)
    took = time.monotonic() - began
    assert 0.3 <= kill.seconds <= took + 5e-4 < 10  # it is rounded
    assert (kill.iteration, kill.hit_write) == (0, False)
    assert kill.counts()


def test_a_session_does_not_outlive_its_block(tmp_path: Path) -> None:
    wait = [sys.executable, '-c', 'import time; time.sleep(60)']
    with Session(wait, tmp_path / 'run') as session:
        assert session.process.poll() is None
    assert session.process.returncode == -signal.SIGKILL
