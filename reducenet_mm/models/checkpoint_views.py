# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Checkpoints as networks: both views of a file.

A *teacher* checkpoint holds the plain classifier's keys (``backbone.*``,
``head.*``), branches included. A *distillation* checkpoint holds
``architecture.*`` (the student's values and the untouched branches) and
``teacher_overlay.*`` (the teacher's values where they differ).
"""

from __future__ import annotations

import logging
import os.path as osp
from collections.abc import Mapping
from pathlib import Path

from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from .newest_checkpoint import is_intact, named_last, newest_checkpoint
from .supernet import is_branch_key, is_lora_key

ARCHITECTURE = 'architecture.'
OVERLAY = 'teacher_overlay.'

StateDict = dict[str, Tensor]


def is_distill_state_dict(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the state dict is an algorithm's, not a plain network's."""
    return any(key.startswith(ARCHITECTURE) for key in state_dict)


def strip_prefix(state_dict: Mapping[str, Tensor], prefix: str) -> StateDict:
    """Return the entries below ``prefix``, without it."""
    return {
        key[len(prefix) :]: value
        for key, value in state_dict.items()
        if key.startswith(prefix)
    }


def split_state_dict(
    state_dict: Mapping[str, Tensor],
) -> tuple[StateDict | None, StateDict]:
    """Take both networks out of one state dict.

    Args:
        state_dict: That of a teacher or of a distillation checkpoint.

    Returns:
        The teacher's state dict with the keys of the supernet, and the
        student's without any branch. The teacher is ``None`` if the stage
        kept no overlay: it had no distiller, or, with only ``lora``, changed
        nothing of the teacher. That is in its own checkpoint only.
    """
    if not is_distill_state_dict(state_dict):
        teacher: StateDict | None = dict(state_dict)
        supernet = dict(state_dict)
    else:
        supernet = strip_prefix(state_dict, ARCHITECTURE)
        overlay = strip_prefix(state_dict, OVERLAY)
        teacher = {**supernet, **overlay} if overlay else None
    student = {k: v for k, v in supernet.items() if not is_branch_key(k)}
    return teacher, student


def teacher_state_dict(
    state_dict: Mapping[str, Tensor], source: str
) -> StateDict:
    """Take the teacher out of any checkpoint that has it.

    Args:
        state_dict: See :func:`split_state_dict`.
        source: Where it comes from, for the error.

    Returns:
        The supernet's, without ``lora`` branches, which no teacher uses.

    Raises:
        ValueError: If it is a student stage's that kept no teacher.
    """
    teacher, _ = split_state_dict(state_dict)
    if teacher is None:
        raise ValueError(
            f'{source} is a distillation checkpoint that keeps no teacher '
            'beside the student (the stage had no distiller, or changed '
            'nothing of the teacher): give the checkpoint of the stage that '
            'trained the teacher.'
        )
    return {k: v for k, v in teacher.items() if not is_lora_key(k)}


def resolve_checkpoint(path: str, config_key: str) -> str:
    """Return the checkpoint file that ``path`` means.

    Args:
        path: A file, an address that MMEngine can load, or a work
            directory, which means its last checkpoint.
        config_key: Where the path was configured, for the error.

    Raises:
        FileNotFoundError: If there is no such file, or no checkpoint in the
            directory.
        ValueError: If all checkpoints in it are damaged.
    """
    if osp.isdir(path):
        latest = _last_of(Path(path), config_key)
        if latest is None:
            raise FileNotFoundError(
                f'{config_key}={path!r} is a directory without a finished '
                'checkpoint. Train that stage first, or set '
                f'`--cfg-options {config_key}=FILE`.'
            )
        return str(latest)
    if '://' not in path and not osp.isfile(path):
        raise FileNotFoundError(
            f'{config_key}={path!r} does not exist. Train the stage that '
            f'writes it first, or set `--cfg-options {config_key}=FILE`.'
        )
    return path


def _last_of(work_dir: Path, config_key: str) -> Path | None:
    """Return the last checkpoint of a finished run, if there is any.

    That is what ``last_checkpoint`` names: in a copied folder, times are
    those of copying. After a kill it may be empty, or name half a file.
    """
    named = named_last(work_dir)
    if named is not None and is_intact(named):
        return named

    def warn(message: str) -> None:
        print_log(f'{config_key}: {message}', 'current', logging.WARNING)

    try:
        return newest_checkpoint(work_dir, warn)
    except ValueError as error:
        raise ValueError(
            f'{config_key}={str(work_dir)!r}: all checkpoints in it are '
            'damaged. Train that stage again, or name an intact file.'
        ) from error


def read_state_dict(path: str, config_key: str) -> StateDict:
    """Read the state dict of a checkpoint onto the CPU.

    Args:
        path: See :func:`resolve_checkpoint`, likewise ``config_key``.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it holds no state dict.
    """
    file = resolve_checkpoint(path, config_key)
    checkpoint = CheckpointLoader.load_checkpoint(file, map_location='cpu')
    state_dict = checkpoint
    if isinstance(checkpoint, Mapping):
        state_dict = checkpoint.get('state_dict', checkpoint)
    tensors = []
    if isinstance(state_dict, Mapping):
        tensors = [k for k, v in state_dict.items() if isinstance(v, Tensor)]
    if not tensors:
        raise ValueError(
            f'{config_key}={file!r} holds no weights (no `state_dict` of '
            'tensors). Give a checkpoint written by a training run.'
        )
    return {key: state_dict[key] for key in tensors}
