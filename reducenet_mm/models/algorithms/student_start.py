# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A student that starts from a checkpoint of its own."""

from __future__ import annotations

from torch import nn

from ..checkpoint_checks import check_state_dict
from ..checkpoint_views import read_state_dict, split_state_dict
from ..merged_student import merge_student
from ..supernet import is_branch_key, is_lora_key

CONFIG_KEY = 'model.student_init'


def load_student_init(architecture: nn.Module, path: str) -> None:
    """Load the student of ``path``; branches stay as they are.

    A ``lora`` branch or pair that this stage has not is merged.

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
