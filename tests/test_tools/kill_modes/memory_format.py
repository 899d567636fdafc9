# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Weights in another layout than the one that checkpoints are loaded into.
_base_ = './teacher.py'

custom_hooks = [dict(type='MemoryFormatHook')]
