# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Data sets, the train / validation split, seeded order and augmentation."""

from .digits import Digits
from .holdout import holdout_indices, holdout_split
from .readable import LoadReadableImage
from .seeded import SampleIndex, SeededSampler, SeedSample

__all__ = [
    'Digits',
    'LoadReadableImage',
    'SampleIndex',
    'SeedSample',
    'SeededSampler',
    'holdout_indices',
    'holdout_split',
]
