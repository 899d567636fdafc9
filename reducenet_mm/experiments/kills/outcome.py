# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What a training has ended with, and in what two such ends differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from reducenet_mm.engine.checkpointing import newest_checkpoint

from ..scalars import validation_curve

NOT_COMPARED = ('meta', 'message_hub')  # position and INFO apart
PATHS = ('best_ckpt', 'last_ckpt')  # begin the names of such entries
INFO_NOT_COMPARED = (
    *('cfg', 'experiment_name', 'eta'),  # times and paths
    *('loop_stage', 'epoch', 'iter'),  # set anew before they are used
    'mmengine_version',  # with the commit of the folder, whatever that is of
)


def load(path: Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU, without a word in the log."""
    return CheckpointLoader.load_checkpoint(str(path), 'cpu', 'silent')


def outcome(work_dir: Path, metric: str) -> dict[str, Any]:
    """Return what a finished run is judged by.

    Args:
        work_dir: Of the run.
        metric: Name of the validation metric.

    Returns:
        The last checkpoint's content but for times and paths, the weights of
        its best checkpoints (``best``, by file name) and the validation
        curve.

    Raises:
        RuntimeError: If there is no checkpoint.
    """
    newest = newest_checkpoint(work_dir)
    if newest is None:
        raise RuntimeError(f'{work_dir} has ended without a checkpoint.')
    saved = load(newest)
    compared = {k: v for k, v in saved.items() if k not in NOT_COMPARED}
    compared['meta'] = {key: saved['meta'][key] for key in ('epoch', 'iter')}
    info = runtime_info(saved)
    compared['runtime_info'] = info
    bests = (info[key] for key in info if key.startswith('best_ckpt'))
    compared['best'] = {n: load(work_dir / n)['state_dict'] for n in bests}
    curve = dict(validation_curve(work_dir, metric))
    return dict(compared, file=newest.name, validation=curve)


def runtime_info(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint's message hub says of how training goes on.

    Times are left out, and of paths all but the file's name.
    """
    info = checkpoint['message_hub']['runtime_info']
    return {
        key: Path(value).name if key.startswith(PATHS) else value
        for key, value in info.items()
        if key not in INFO_NOT_COMPARED
    }


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
        by_number = dict(enumerate(one)), dict(enumerate(other))
        yield from differences(*by_number, name)
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or not torch.equal(one, other):
            yield name
    elif type(one) is not type(other) or one != other:
        yield name
