# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which of the student's norm statistics move: a stage's explicit choice."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from ..supernet import student_norms

NORM_STATS = ('inherited', 'recalibrated', 'live')


def find_moving_norms(
    architecture: nn.Module, norm_stats: str, fresh: Collection[str]
) -> tuple[str, ...]:
    """Return the names of the norms whose statistics may leave the teacher's.

    The host's ``frozen_stages`` and ``norm_eval`` are respected. The
    architecture is in training mode afterwards.

    Args:
        architecture: The supernet.
        norm_stats: One of ``NORM_STATS``.
        fresh: Keys of the student's tensors that are not inherited.

    Raises:
        ValueError: If nothing is there to recalibrate, or a fresh norm
            would keep statistics that come from no image.
    """
    architecture.train()
    norms = dict(student_norms(architecture))
    moving = tuple(
        name
        for name, norm in norms.items()
        if norm.training and norm_stats != 'inherited'
    )
    if norm_stats == 'recalibrated' and not moving:
        raise ValueError(
            "model.norm_stats='recalibrated', but the architecture has no "
            'batch norm whose statistics may move (norm_eval, '
            "frozen_stages or another norm). Use 'inherited'."
        )
    stuck = [
        name
        for name in norms
        if name not in moving and f'{name}.running_mean' in fresh
    ]
    if stuck:
        raise ValueError(
            f'{stuck[0]} is not inherited (model.reuse.inherit), but its '
            f'statistics would not move (model.norm_stats={norm_stats!r}, '
            'norm_eval or frozen_stages): it would normalise by mean 0 and '
            "variance 1. Inherit it, or set model.norm_stats='live' or "
            "'recalibrated'."
        )
    return moving
