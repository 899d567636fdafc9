# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Data sets and the train / validation split."""

from .digits import Digits
from .holdout import holdout_indices, holdout_split

__all__ = ['Digits', 'holdout_indices', 'holdout_split']
