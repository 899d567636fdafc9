# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Checkpoint files that a kill cannot spoil, and the one to resume from."""

from reducenet_mm.models.newest_checkpoint import newest_checkpoint

from .atomic_backend import AtomicBackend
from .settings import keep_two_checkpoints, out_dir_of, settle_resume

__all__ = [
    'AtomicBackend',
    'keep_two_checkpoints',
    'newest_checkpoint',
    'out_dir_of',
    'settle_resume',
]
