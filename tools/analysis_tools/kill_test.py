# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Kill a training at random moments, resume it, compare what it ends with.

A config is trained once undisturbed. Then it is trained again and again,
killed (SIGKILL, with its worker processes) and restarted with ``--resume``
until it ends. Everything in the last checkpoint must be equal bit for bit:
weights, optimizer, schedules, averages, early stopping; and so must the
validation curve. What is drawn depends on the seed alone; the moment of a
kill is only as precise as the watching of another process can be.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from reducenet_mm.engine.checkpointing import newest_checkpoint
from reducenet_mm.engine.launch import default_work_dir, usage_errors
from reducenet_mm.experiments.kills import Kill, Session, hit
from reducenet_mm.experiments.results import versions
from reducenet_mm.experiments.scalars import scalar_files, validation_curve
from reducenet_mm.export.files import write_json

TRAIN = Path(__file__).parents[1] / 'train.py'
NOT_COMPARED = ('meta', 'message_hub')  # hold times and paths


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='kill_test.py',
        description='Kill trainings of a config at random moments, uniformly '
        'over the iterations, and resume them: they must end with the '
        'weights of one that was not killed. Exit status 1 if not.',
    )
    parser.add_argument('config', help='path of a training config')
    parser.add_argument('--kills', type=int, default=6, help='in all')
    parser.add_argument(
        '--kills-per-run', type=int, default=3, help='at most, of one run'
    )
    parser.add_argument('--seed', type=int, help='of the moments, to replay')
    parser.add_argument(
        '--during-writes',
        type=float,
        default=0.3,
        metavar='FRACTION',
        help='of the kills, inside the write of a checkpoint; needs '
        "default_hooks.checkpoint.backend_args=dict(backend='atomic')",
    )
    parser.add_argument('--work-dir', help='a new folder for all runs')
    parser.add_argument('--metric', default='accuracy/top1')
    parser.add_argument('--out', metavar='FILE', help='JSON file to write')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='as of train.py',
    )
    args = parser.parse_args(argv)
    if min(args.kills, args.kills_per_run) < 1:
        parser.error('--kills and --kills-per-run must be at least 1')
    if not 0 <= args.during_writes <= 1:
        parser.error('--during-writes must be from 0 to 1')
    if args.seed is None:
        args.seed = secrets.randbelow(2**31)
    return args


def draw_kills(
    rng: random.Random, args: argparse.Namespace, count: int, iterations: int
) -> list[Kill]:
    """Draw the kills of one run, uniformly over its iterations, in order."""
    moments = sorted(rng.uniform(0, iterations) for _ in range(count))
    return [Kill(m, rng.random() < args.during_writes) for m in moments]


def command(args: argparse.Namespace, work_dir: Path) -> list[str]:
    """Return the command of a session, which starts or resumes a run."""
    parts = [sys.executable, str(TRAIN), args.config, '--resume']
    parts += ['--work-dir', str(work_dir), '--cfg-options']
    return [*parts, *args.cfg_options, 'default_hooks.logger.interval=1']


def killed_run(
    args: argparse.Namespace, work_dir: Path, kills: list[Kill], step: float
) -> list[str]:
    """Train once, with kills; return what is wrong with its checkpoints."""
    wrong = []
    reached = 0
    for kill in kills:
        with Session(command(args, work_dir), work_dir) as session:
            if not hit(session, kill, step):
                session.finish()
                return wrong
        newest = newest_checkpoint(work_dir)
        position = 0 if newest is None else load(newest)['meta']['iter']
        if position < reached:
            wrong.append(f'{kill}: iteration {reached} had been saved')
        reached = position
        kill.resumed_from = None if newest is None else newest.name
        where = 'in a write' if kill.hit_write else 'between writes'
        print(
            f'{work_dir.name}: killed {where} after iteration '
            f'{kill.iteration}, left {kill.resumed_from}',
            flush=True,
        )
    with Session(command(args, work_dir), work_dir) as session:
        session.finish()
    return wrong


def load(path: Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU."""
    return CheckpointLoader.load_checkpoint(str(path), 'cpu', 'silent')


def outcome(work_dir: Path, metric: str) -> dict[str, Any]:
    """Return what a finished run is judged by."""
    newest = newest_checkpoint(work_dir)
    if newest is None:
        raise RuntimeError(f'{work_dir} has ended without a checkpoint.')
    saved = load(newest)
    compared = {k: v for k, v in saved.items() if k not in NOT_COMPARED}
    position = {key: saved['meta'][key] for key in ('epoch', 'iter')}
    curve = dict(validation_curve(work_dir, metric))
    return dict(compared, file=newest.name, meta=position, validation=curve)


def differences(one: Any, other: Any, name: str = '') -> Iterator[str]:
    """Yield the dotted names of all that is not the same in both."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in [*one, *(key for key in other if key not in one)]:
            where = f'{name}.{key}' if name else str(key)
            if key in one and key in other:
                yield from differences(one[key], other[key], where)
            else:
                yield where
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        pairs = [dict(enumerate(value)) for value in (one, other)]
        yield from differences(*pairs, name)
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or not torch.equal(one, other):
            yield name
    elif type(one) is not type(other) or one != other:
        yield name


def step_seconds(work_dir: Path) -> float:
    """Return how long an iteration of a finished run took, on average."""
    text = scalar_files(work_dir)[-1].read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    times = [row['time'] for row in rows if 'loss' in row]
    return sum(times) / len(times)


def test_config(args: argparse.Namespace, work_dir: Path) -> dict[str, Any]:
    """Do all runs; return the result."""
    rng = random.Random(args.seed)
    reference = work_dir / 'reference'
    with Session(command(args, reference), reference) as session:
        session.finish()
    wanted = outcome(reference, args.metric)
    step = step_seconds(reference)
    runs: list[dict[str, Any]] = []
    missing = args.kills
    while missing and len(runs) < 2 * args.kills:
        folder = work_dir / f'run{len(runs) + 1}'
        count = min(missing, args.kills_per_run)
        kills = draw_kills(rng, args, count, wanted['meta']['iter'])
        wrong = killed_run(args, folder, kills, step)
        wrong += differences(wanted, outcome(folder, args.metric))
        done = [asdict(kill) for kill in kills if kill.iteration >= 0]
        missing -= len(done)
        runs.append(dict(kills=done, wrong=wrong))
        print(f'{folder.name}: {"DIFFERENT" if wrong else "identical"}')
    kills_done = [kill for run in runs for kill in run['kills']]
    return dict(
        config=args.config,
        cfg_options=args.cfg_options,
        seed=args.seed,
        during_writes=args.during_writes,
        kills_per_run=args.kills_per_run,
        iterations=wanted['meta']['iter'],
        compared=sorted(wanted),
        kills=len(kills_done),
        kills_in_writes=sum(kill['hit_write'] for kill in kills_done),
        identical=not any(run['wrong'] for run in runs),
        runs=runs,
        versions=versions(),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Test a config; exit with status 1 if anything differs."""
    args = parse_args(argv)
    name = Path(default_work_dir(args.config)).name
    work_dir = Path(args.work_dir or f'work_dirs/kill_test/{name}')
    with usage_errors('kill_test.py'):
        if not Path(args.config).is_file():
            raise FileNotFoundError(f'config {args.config!r} is not there.')
        if work_dir.exists() and any(work_dir.iterdir()):
            raise ValueError(
                f'--work-dir {str(work_dir)!r} is not empty; give a new one.'
            )
    print(f'seed {args.seed}: the same moments again with --seed', flush=True)
    result = test_config(args, work_dir)
    if args.out:
        write_json(args.out, result)
    print(
        f'{result["kills"]} kills, {result["kills_in_writes"]} of them in '
        f'writes, over {result["iterations"]} iterations: '
        f'{"identical" if result["identical"] else "DIFFERENT"}'
    )
    if not result['identical'] or result['kills'] < args.kills:
        sys.exit(1)


if __name__ == '__main__':
    main()
