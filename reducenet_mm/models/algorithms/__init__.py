# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The algorithm. Importing this package imports MMRazor."""

from .supernet_distill import SupernetDistill

__all__ = ['SupernetDistill']
