# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Kill a training at random moments, resume it, compare what it ends with.

A config is trained once undisturbed. Then it is trained again and again,
killed (SIGKILL, with its worker processes) and restarted with ``--resume``
until it ends: at moments uniform over the iterations, inside writes of
checkpoints, and at moments uniform over the start-up, of a fresh start and of
one that resumes. Everything in the last checkpoint must be equal bit for bit:
weights, optimizer, schedules, averages, early stopping, the best score; and
so must the best checkpoint and the validation curve. What is drawn depends on
the seed alone; the moment of a kill is only as precise as the watching of
another process can be. One that came elsewhere than in the write or the
start-up meant does not count and is made up for.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reducenet_mm.engine.checkpointing import newest_checkpoint
from reducenet_mm.engine.launch import (
    USAGE_STATUS,
    add_json_argument,
    check_json,
    default_work_dir,
    usage_errors,
    write_json,
)
from reducenet_mm.experiments.code_version import code_version
from reducenet_mm.experiments.kills.outcome import differences, load, outcome
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
from reducenet_mm.experiments.records import set_aside
from reducenet_mm.experiments.scalars import (
    scalar_files,
    validated_metrics,
)

TRAIN = Path(__file__).parents[1] / 'train.py'
ROUNDS = 4
"""How often kills are drawn anew for those that did not count."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='kill_test.py',
        description='Kill trainings of a config at random moments and resume '
        'them: they must end with the weights of one that was not killed. '
        'Exit status 1 if not, or if not all kills could be made; 2 if the '
        'one without kills fails, or does not log --metric.',
    )
    parser.add_argument('config', help='path of a training config')
    parser.add_argument(
        '--kills',
        type=int,
        default=5,
        metavar='N',
        help='uniformly over the iterations',
    )
    parser.add_argument(
        '--in-writes',
        type=int,
        default=2,
        metavar='N',
        help='further ones, inside the write of a checkpoint; need '
        "default_hooks.checkpoint.backend_args=dict(backend='atomic')",
    )
    parser.add_argument(
        '--at-starts',
        type=int,
        default=2,
        metavar='N',
        help='further ones, uniformly over the time before the first '
        'iteration, of fresh and of resumed starts in turn',
    )
    parser.add_argument(
        '--kills-per-run',
        type=int,
        default=3,
        help='at most, of one run, without those at starts',
    )
    parser.add_argument('--seed', type=int, help='of the moments, to replay')
    parser.add_argument('--work-dir', help='a new folder for all runs')
    parser.add_argument('--metric', default='accuracy/top1')
    add_json_argument(parser)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='as of train.py',
    )
    args = parser.parse_args(argv)
    numbers = (args.kills, args.in_writes, args.at_starts)
    if min(numbers) < 0 or sum(numbers) < 1:
        parser.error(
            '--kills, --in-writes and --at-starts must be at least 0, and '
            f'not all of them 0; got {numbers}'
        )
    if args.kills_per_run < 1:
        parser.error(
            f'--kills-per-run must be at least 1, got {args.kills_per_run}'
        )
    if args.seed is None:
        args.seed = secrets.randbelow(2**31)
    return args


def wanted_kills(args: argparse.Namespace) -> dict[str, int]:
    """Return how many kills there shall be, by kind."""
    resumed = args.at_starts // 2
    return {
        UNIFORM: args.kills,
        WRITE: args.in_writes,
        FRESH_START: args.at_starts - resumed,
        RESUMED_START: resumed,
    }


def command(args: argparse.Namespace, work_dir: Path) -> list[str]:
    """Return the command of a session, which starts or resumes a run."""
    parts = [sys.executable, str(TRAIN), args.config, '--resume']
    parts += ['--work-dir', str(work_dir), '--cfg-options']
    return [*parts, *args.cfg_options, 'default_hooks.logger.interval=1']


def killed_run(
    args: argparse.Namespace, work_dir: Path, kills: list[Kill], pace: Pace
) -> list[str]:
    """Train once, with kills; return what is wrong with its checkpoints.

    Args:
        args: The command line.
        work_dir: Of the run, new.
        kills: In order; one to a first checkpoint is added, before a start
            that is to be resumed, where there is none yet.
        pace: Of the reference.
    """
    wrong: list[str] = []
    reached = 0
    newest = None
    for index, kill in enumerate(kills):
        if kill.kind == RESUMED_START and newest is None:
            kill = Kill(TO_CHECKPOINT, 0)
            kills.insert(index, kill)  # the start comes next
        with Session(command(args, work_dir), work_dir) as session:
            if not hit(session, kill, pace):
                session.finish()
                return wrong
        newest = newest_checkpoint(work_dir)
        position = 0 if newest is None else load(newest)['meta']['iter']
        if position < reached:
            wrong.append(f'{kill}: iteration {reached} had been saved')
        reached = position
        kill.resumed_from = None if newest is None else newest.name
        print(
            f'{work_dir.name}: killed {kill.kind}, after {kill.seconds} s and '
            f'iteration {kill.iteration}, left {kill.resumed_from}',
            flush=True,
        )
    with Session(command(args, work_dir), work_dir) as session:
        session.finish()
    return wrong


def step_seconds(work_dir: Path) -> float:
    """Return how long an iteration of a finished run took, on average."""
    text = scalar_files(work_dir)[-1].read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    times = [row['time'] for row in rows if 'loss' in row]
    return sum(times) / len(times)


def train_reference(
    args: argparse.Namespace, work_dir: Path
) -> tuple[Pace, dict[str, Any]]:
    """Train without kills; return how fast that went, and its outcome.

    Raises:
        RuntimeError: If the training fails.
        ValueError: If it has validated, but not logged the metric: no curve
            would be compared.
    """
    with Session(command(args, work_dir), work_dir) as session:
        session.wait_until(lambda: session.iteration() > 0, 0.002)
        start_up = session.seconds()
        session.finish()
    expected = outcome(work_dir, args.metric)
    logged = validated_metrics(work_dir)
    if logged and not expected['validation']:
        raise ValueError(
            f'--metric: no validation has logged {args.metric!r}, but '
            f'{logged}. Give one of these.'
        )
    return Pace(start_up, step_seconds(work_dir)), expected


def test_config(args: argparse.Namespace, work_dir: Path) -> dict[str, Any]:
    """Do all runs; return the result.

    Exits if the run without kills is not fit to be compared with; the
    corrected command finds its work dir empty.
    """
    rng = random.Random(args.seed)
    code = code_version()
    try:
        pace, expected = train_reference(args, work_dir / 'reference')
    except (RuntimeError, ValueError) as error:
        moved = set_aside(work_dir.absolute())
        sys.stderr.write(
            f'kill_test.py: error: {error}\nNothing was killed. The folder '
            f'is now {moved}.\n'
        )
        sys.exit(USAGE_STATUS)
    iterations = expected['meta']['iter']
    runs: list[dict[str, Any]] = []
    done: Counter[str] = Counter()
    for _ in range(ROUNDS):
        missing = Counter(wanted_kills(args)) - done
        for kills in draw_runs(rng, missing, args.kills_per_run, iterations):
            folder = work_dir / f'run{len(runs) + 1}'
            wrong = killed_run(args, folder, kills, pace)
            wrong += differences(expected, outcome(folder, args.metric))
            made = [kill for kill in kills if kill.iteration >= 0]
            done.update(kill.kind for kill in made if kill.counts())
            runs.append(dict(kills=list(map(asdict, made)), wrong=wrong))
            print(f'{folder.name}: {"DIFFERENT" if wrong else "identical"}')
    empty = set() if expected['validation'] else {'validation'}
    if code_version() != code:  # each session ran what was there then
        code['dirty'] = True
    return dict(
        config=args.config,
        cfg_options=args.cfg_options,
        code=code,
        seed=args.seed,
        kills_per_run=args.kills_per_run,
        iterations=iterations,
        start_up_seconds=pace.start_up,
        compared=sorted(k for k in expected if k not in empty),
        runtime_info_compared=sorted(expected['runtime_info']),
        kills=done.total(),
        kills_wanted=wanted_kills(args),
        kills_by_kind={kind: done[kind] for kind in KINDS},
        not_counted=sum(len(run['kills']) for run in runs) - done.total(),
        identical=not any(run['wrong'] for run in runs),
        runs=runs,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Test a config; exit with status 1 if anything differs."""
    args = parse_args(argv)
    name = Path(default_work_dir(args.config)).name
    work_dir = Path(args.work_dir or f'work_dirs/kill_test/{name}')
    with usage_errors('kill_test.py'):
        check_json(args)
        if not Path(args.config).is_file():
            raise FileNotFoundError(f'config {args.config!r} is not there.')
        if work_dir.exists() and any(work_dir.iterdir()):
            raise ValueError(
                f'--work-dir {str(work_dir)!r} is not empty; give a new one.'
            )
    print(f'seed {args.seed}: the same moments again with --seed', flush=True)
    result = test_config(args, work_dir)
    write_json(args, 'kill_test.py', result)
    wanted = wanted_kills(args)
    by_kind = result['kills_by_kind']
    counts = (f'{by_kind[k]} of {wanted[k]} {k}' for k in KINDS)
    print(
        f'{result["kills"]} kills ({", ".join(counts)}), '
        f'{result["iterations"]} iterations: '
        f'{"identical" if result["identical"] else "DIFFERENT"}'
    )
    if not result['identical'] or by_kind != wanted:
        sys.exit(1)


if __name__ == '__main__':
    main()
