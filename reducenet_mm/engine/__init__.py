# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What MMEngine's runners use of ours: hooks, optimizer constructors."""

from .hooks import MemoryFormatHook, SupernetSwitchHook
from .optimizers import TrainableOptimWrapperConstructor

__all__ = [
    'MemoryFormatHook',
    'SupernetSwitchHook',
    'TrainableOptimWrapperConstructor',
]
