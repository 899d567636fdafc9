# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The process of one cell: train, validate, test once, and say how it went.

It is forked from a server that has imported everything already and computed
nothing yet, which saves the seconds that each import would take.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from reducenet_mm.datasets.kept import keep_images
from reducenet_mm.engine import launch, preflight
from reducenet_mm.engine.checkpointing import newest_checkpoint
from reducenet_mm.engine.config_file import read_config
from reducenet_mm.engine.training import (
    SECTIONS,
    TEST_SECTIONS,
    begin_log,
    settle_training,
)
from reducenet_mm.plain_numbers import as_number

from ..checks import check_end
from ..code_version import code_version
from ..cost import LOADERS
from ..processes import LOG, exclusive
from ..records import (
    STARTED,
    content_hash,
    read_marker,
    session_marker,
    set_aside,
    write_marker,
)
from ..scalars import drop_shock, validation_curve

PRELOAD = (
    'reducenet_mm.experiments.campaign.worker',
    'reducenet_mm.models.algorithms',
    'mmpretrain.datasets',
    'mmpretrain.engine',
    'mmpretrain.evaluation',
    'mmpretrain.models',
    'mmpretrain.visualization',
)

CODE = code_version()
"""Of the code in memory: a commit may follow before a cell starts."""


@dataclass(frozen=True)
class Job:
    """What a worker has to do.

    Attributes:
        config: Training config.
        options: Overrides of it, by dotted key; all checkpoints that it
            starts from are there.
        inputs: Keys of these checkpoints.
        config_hash: Of the config as it was planned, without them.
        folder: Where to train. Results of other work in it are set aside.
        lock: Name of the lock beside all folders that keeps others away.
        locks: Folder of that lock.
        digest: Hash of the cell, for the markers.
        epochs: How long it trains.
        metric: The metric that is compared.
        test: Whether to test too, after training.
        threads: Threads to compute with.
        keep_images: Whether to decode each training image once.
    """

    config: str
    options: dict[str, Any]
    inputs: tuple[str, ...]
    config_hash: str
    folder: Path
    lock: str
    locks: Path
    digest: str
    epochs: int
    metric: str
    test: bool
    threads: int
    keep_images: bool = False


def work(job: Job) -> None:
    """Do a job and leave a marker; resume what was interrupted.

    Anything that it raises ends its process with an error, the traceback in
    the folder's console log.
    """
    _end_with_parent()
    os.environ.setdefault('LOCAL_RANK', '0')  # MMEngine's tools set it too
    torch.set_num_threads(job.threads)
    with exclusive(job.locks, name=job.lock):
        started = read_marker(job.folder, job.digest, STARTED)
        if started is None:
            set_aside(job.folder)
        job.folder.mkdir(parents=True, exist_ok=True)
        _redirect_output(job.folder / LOG)
        if newest_checkpoint(job.folder) is None:
            started = None
        marker = session_marker(started, CODE)
        write_marker(job.folder, job.digest, marker, STARTED)
        outcome = _train_and_test(job)
        write_marker(job.folder, job.digest, {**marker, **outcome})


def _train_and_test(job: Job) -> dict[str, Any]:
    start = time.monotonic()
    notes: list[str] = []
    runner = launch.build_runner(_prepare(job, notes.append))
    begin_log(runner, notes)
    loader = runner.train_dataloader
    if not runner.cfg.get('resume'):  # a resumed training has seen them all
        preflight.check_data(runner.model, loader)
    if job.keep_images:
        runner.logger.info(keep_images(loader))
    runner.train()
    checkpoint = job.folder / f'epoch_{job.epochs}.pth'
    check_end(checkpoint, newest_checkpoint(job.folder), job.config)
    curve = dict(validation_curve(job.folder, job.metric))
    if job.epochs not in curve and runner.val_loop is not None:
        # The run was killed between its last checkpoint and its validation,
        # or the interval does not divide its length.
        curve[job.epochs] = _numbers(runner.val(), job.metric)[job.metric]
    test = _numbers(runner.test(), job.metric) if job.test else None
    return dict(
        val=curve.get(job.epochs),
        test=test,
        validation=sorted(curve.items()),
        drop_shock=drop_shock(job.folder, job.metric),
        seconds=round(time.monotonic() - start, 1),
        threads=torch.get_num_threads(),
        keep_images=job.keep_images,
    )


def _prepare(job: Job, say: Callable[[str], Any]) -> Config:
    """Return the config that the Runner gets, every check passed."""
    cfg = planned_config(job)
    cfg.launcher = 'none'
    cfg.work_dir = str(job.folder)
    if not job.test:
        cfg.update(dict.fromkeys(TEST_SECTIONS))
    preflight.check_sections(cfg, SECTIONS)
    launch.set_loader_defaults(cfg, LOADERS)
    cfg.resume = True
    settle_training(cfg, LOADERS, say, search=True)
    return cfg


def planned_config(job: Job) -> Config:
    """Read the config; it may have been edited since it was planned.

    Raises:
        RuntimeError: If it was: the result would not be what its hash says.
    """
    unset = {**job.options, **dict.fromkeys(job.inputs)}
    content = read_config(job.config, unset).to_dict()
    if content_hash(content) != job.config_hash:
        raise RuntimeError(
            f'{job.config}, or a file that it inherits from, has changed '
            'since this campaign was started. Start it again: it plans and '
            'trains anew what has changed.'
        )
    return read_config(job.config, job.options)


def _numbers(metrics: Mapping[str, Any], wanted: str) -> dict[str, float]:
    """Return the metrics that are finite numbers, the wanted one included.

    Raises:
        RuntimeError: If that one is missing.
    """
    values = {key: as_number(value) for key, value in metrics.items()}
    numbers = {
        key: value
        for key, value in values.items()
        if value is not None and math.isfinite(value)
    }
    if wanted not in numbers:
        raise RuntimeError(
            f'the evaluator reports no finite {wanted!r} (`metric` of the '
            f'campaign config), but {dict(metrics)}.'
        )
    return numbers


def _redirect_output(log: Path) -> None:
    """Append to ``log`` whatever this process writes, its children's too."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _end_with_parent() -> None:
    """End this process as soon as the one that asked for it is gone.

    The fork server's own death says nothing: it lives as long as we do.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
