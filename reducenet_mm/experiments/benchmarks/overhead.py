# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What reproducible and unbreakable runs cost, beside those of MMEngine.

All in one process, without loader processes: what they would do beside the
training counts in full.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from reducenet_mm.datasets.wrapped import innermost
from reducenet_mm.engine import launch
from reducenet_mm.engine.hooks import SeededStepHook

from .timing import Times, quartiles, take_turns

KINDS = ('unseeded', 'seeded')
BACKENDS = ('local', 'atomic')


def without_seeds(loader: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dataloader's config as MMPretrain has it, unseeded.

    Args:
        loader: ``train_dataloader`` of a config; it is not changed.

    Raises:
        ValueError: If it is not seeded in the first place.
    """
    plain = copy.deepcopy(dict(loader))
    removed = 0
    for dataset in innermost(plain['dataset']):
        steps = dataset.get('pipeline', [])
        kept = [step for step in steps if step['type'] != 'SeedSample']
        removed += len(steps) - len(kept)
        dataset['pipeline'] = kept
    sampler = plain['sampler']
    if sampler['type'] != 'SeededSampler' or not removed:
        raise ValueError(
            'the overhead is that of a seeded pipeline, got '
            f'train_dataloader.sampler.type={sampler["type"]!r} and '
            f'{removed} SeedSample in the pipeline. Take '
            'configs/_base_/reproducible.py into the config.'
        )
    sampler['type'] = 'mmengine.DefaultSampler'
    return plain


def measure_overhead(
    cfg: Config, rounds: int, work_dir: Path
) -> dict[str, Any]:
    """Time epochs and checkpoints of a config's training.

    Args:
        cfg: Training config, checked; it is not changed.
        rounds: How often each is timed, at least twice.
        work_dir: Where to write, on the disk where runs write.

    Returns:
        ``seconds`` of epochs, of loading the data alone and of writing a
        checkpoint, and ``percent_of_epoch``, see :func:`percentages`;
        median and quartiles over rounds.

    Raises:
        ValueError: If the config's pipeline is not seeded.
    """
    cfg = _alone(cfg, work_dir)
    plain_loader = without_seeds(cfg.train_dataloader)
    checkpoint = dict(cfg.default_hooks.checkpoint)
    cfg.default_hooks.checkpoint.update(interval=-1, save_last=False)
    runner = launch.build_runner(cfg)
    runner.train()  # one epoch: builds and warms up everything
    loaders = dict(
        unseeded=runner.build_dataloader(plain_loader, seed=runner.seed),
        seeded=runner.train_dataloader,
    )
    actions = {
        f'{name} {kind}': _epoch(runner, loaders[kind], kind, trains)
        for name, trains in (('epoch', True), ('data', False))
        for kind in KINDS
    }
    for backend in BACKENDS:
        actions[f'checkpoint {backend}'] = _saving(runner, backend, work_dir)
        actions[f'checkpoint {backend}']()
    actions['data unseeded']()  # the other loader has been in use already
    times = take_turns(actions, rounds)
    checkpoints = checkpoints_per_epoch(checkpoint, len(loaders['seeded']))
    return dict(
        images_per_epoch=len(loaders['seeded'].dataset),
        batch_size=loaders['seeded'].batch_sampler.batch_size,
        checkpoint_bytes=(work_dir / 'atomic.pth').stat().st_size,
        checkpoints_per_epoch=checkpoints,
        rounds=rounds,
        seconds={
            name: dict(
                wall=quartiles([one.wall for one in values]),
                cpu=quartiles([one.cpu for one in values]),
            )
            for name, values in times.items()
        },
        percent_of_epoch=percentages(times, checkpoints),
    )


def percentages(
    times: Mapping[str, Sequence[Times]], checkpoints: float
) -> dict[str, dict[str, float]]:
    """Return what the two cost, in percent of an unseeded epoch.

    Each is a difference within one round; median and quartiles over rounds.

    * ``seeding, wall`` and ``seeding, cpu``: of whole epochs;
    * ``seeding, cpu of loading``: the difference in loading the data alone,
      in which the noise of the training is not;
    * ``atomic writing``: what a checkpoint takes longer than by MMEngine's
      local backend, wall, with one checkpoint an epoch;
    * ``both, as configured``: seeding, by the CPU time of loading, and atomic
      writing, as often as the config has checkpoints written.

    Args:
        times: By name, as :func:`measure_overhead` names them.
        checkpoints: How many the config has written an epoch.
    """
    plain, seeded = times['epoch unseeded'], times['epoch seeded']
    data = zip(times['data unseeded'], times['data seeded'])
    saves = zip(times['checkpoint local'], times['checkpoint atomic'])
    loading = [b.cpu - a.cpu for a, b in data]
    writing = [b.wall - a.wall for a, b in saves]
    differences = {
        'seeding, wall': [b.wall - a.wall for a, b in zip(plain, seeded)],
        'seeding, cpu': [b.cpu - a.cpu for a, b in zip(plain, seeded)],
        'seeding, cpu of loading': loading,
        'atomic writing': writing,
        'both, as configured': [
            a + checkpoints * b for a, b in zip(loading, writing)
        ],
    }
    result = {}
    for name, values in differences.items():
        by_wall = 'cpu' not in name
        whole = [one.wall if by_wall else one.cpu for one in plain]
        result[name] = quartiles(
            [100 * part / epoch for part, epoch in zip(values, whole)]
        )
    return result


def checkpoints_per_epoch(
    checkpoint: Mapping[str, Any], iterations: int
) -> float:
    """Return how many a ``CheckpointHook`` writes, but for the last one."""
    interval = checkpoint.get('interval', -1)
    if interval <= 0:
        return 0.0
    return (1 if checkpoint.get('by_epoch', True) else iterations) / interval


def _alone(cfg: Config, work_dir: Path) -> Config:
    """Return the config with one epoch of training and nothing beside it."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = str(work_dir)
    cfg.train_cfg.update(max_epochs=1)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.log_level = 'WARNING'
    return cfg


def _epoch(
    runner: Runner, loader: Any, kind: str, trains: bool
) -> Callable[[], None]:
    """Return an epoch of one loader, with its hook, as an action."""
    hook = SeededStepHook()
    turn = 0

    def epoch() -> None:
        nonlocal turn
        turn += 1
        loader.sampler.set_epoch(turn)
        runner.model.train()
        for index, batch in enumerate(loader):
            if kind == 'seeded':
                hook.before_train_iter(runner, index)
            if trains:
                runner.model.train_step(batch, runner.optim_wrapper)

    return epoch


def _saving(runner: Runner, backend: str, folder: Path) -> Callable[[], None]:
    """Return the writing of a whole checkpoint by a backend as an action."""

    def save() -> None:
        runner.save_checkpoint(
            str(folder),
            f'{backend}.pth',
            backend_args=dict(backend=backend),
        )

    return save
