# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The algorithms. Importing this package imports MMRazor."""

from .inplace_distill import InplaceDistill
from .supernet_distill import SupernetDistill

__all__ = ['InplaceDistill', 'SupernetDistill']
