# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
from .memory_format_hook import MemoryFormatHook
from .supernet_switch_hook import SupernetSwitchHook

__all__ = ['MemoryFormatHook', 'SupernetSwitchHook']
