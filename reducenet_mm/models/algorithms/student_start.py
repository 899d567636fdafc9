# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The checkpoints that a teacher and a student are read from."""

from __future__ import annotations

import logging

from mmengine.logging import print_log
from torch import nn

from ..checkpoint_checks import check_state_dict
from ..checkpoint_views import (
    StateDict,
    is_distill_state_dict,
    read_state_dict,
    split_state_dict,
    teacher_state_dict,
)
from ..merged_student import merge_student
from ..supernet import is_branch_key, is_lora_key

CONFIG_KEY = 'model.student_init'
TEACHER_KEY = 'model.teacher_ckpt'


def read_teacher(path: str, student_init: str | None) -> tuple[StateDict, str]:
    """Read a teacher; warn of a student beside it that nobody asked for.

    Args:
        path: Its own checkpoint, or a distillation checkpoint that keeps it.
        student_init: What the student is to start from, if not from it.

    Returns:
        The supernet's state dict, and where it comes from, for errors.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If it holds no teacher.
    """
    source = f'{TEACHER_KEY}={path!r}'
    weights = read_state_dict(path, TEACHER_KEY)
    if is_distill_state_dict(weights) and student_init is None:
        print_log(
            f'{source} also holds a trained student, which is not used: the '
            f'student starts from the teacher. Set {CONFIG_KEY} to the same '
            'to go on from it.',
            'current',
            logging.WARNING,
        )
    return teacher_state_dict(weights, source), source


def load_student_init(architecture: nn.Module, path: str) -> None:
    """Load the student of ``path``; branches stay as they are.

    What :func:`merge_student` says is merged.

    Args:
        architecture: The supernet.
        path: An exported student or a distillation checkpoint.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If it does not fit or cannot be merged; the cause is
            named.
    """
    _, student = split_state_dict(read_state_dict(path, CONFIG_KEY))
    student = merge_student(architecture, student)
    check_state_dict(
        architecture,
        student,
        f'{CONFIG_KEY}={path!r}',
        may_lack=lambda key: is_branch_key(key) or is_lora_key(key),
    )
    architecture.load_state_dict(student, strict=False)
