# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What the tests of InplaceDistill share."""

from __future__ import annotations

import copy

from reducenet_mm import set_scaler

BLOCKS = ['postsum', 'parallel', 'sequential']


def separate(algorithm):
    """Two networks of the algorithm's values, each with all to itself."""
    teacher = copy.deepcopy(algorithm.architecture).train()
    student = copy.deepcopy(algorithm.architecture).train()
    teacher.load_state_dict(algorithm.teacher_overlay.tensors(), strict=False)
    set_scaler(teacher, 1.0)
    set_scaler(student, 0.0)
    return teacher, student


def at(algorithm, iteration, seed=0, max_iters=100):
    algorithm.set_position(seed=seed, iteration=iteration, max_iters=max_iters)
    return algorithm
