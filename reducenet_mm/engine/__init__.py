# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What MMEngine's runners use of ours: hooks, constructors, a file backend."""

from .checkpointing import AtomicBackend
from .hooks import (
    ExactResumeHook,
    FiniteLossHook,
    InplaceHook,
    LearnedMaskHook,
    MemoryFormatHook,
    ResumableEarlyStoppingHook,
    ScalerScheduleHook,
    SeededStepHook,
    SupernetSwitchHook,
    UnreadableImagesHook,
)
from .optimizers import TrainableOptimWrapperConstructor

__all__ = [
    'AtomicBackend',
    'ExactResumeHook',
    'FiniteLossHook',
    'InplaceHook',
    'LearnedMaskHook',
    'MemoryFormatHook',
    'ResumableEarlyStoppingHook',
    'ScalerScheduleHook',
    'SeededStepHook',
    'SupernetSwitchHook',
    'TrainableOptimWrapperConstructor',
    'UnreadableImagesHook',
]
