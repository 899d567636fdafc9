# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which transforms are known to draw from NumPy's generator at most.

Seeding a Mersenne Twister costs microseconds, thrice for each image, and on
small images that shows. A generator that nothing draws from need not be
seeded.
"""

from __future__ import annotations

from typing import Any

from mmcv.transforms import (
    BaseTransform,
    LoadImageFromFile,
    RandomFlip,
)
from mmengine.dataset import BaseDataset
from mmpretrain.datasets.transforms import (
    PackInputs,
    RandomCrop,
    RandomResizedCrop,
)

from .kept import FIXED, KeptSteps
from .readable import LoadReadableImage

NUMPY_AT_MOST: frozenset[type] = FIXED | frozenset(
    {
        KeptSteps,
        LoadImageFromFile,
        LoadReadableImage,
        PackInputs,
        RandomCrop,
        RandomFlip,
        RandomResizedCrop,
    }
)
"""Read, tested one by one, and none of them runs others than these."""


def steps_of(dataset: Any) -> list[BaseTransform]:
    """Return the transforms of a data set; none if it has no pipeline."""
    return list(getattr(getattr(dataset, 'pipeline', None), 'transforms', ()))


def numpy_suffices(dataset: Any, steps: list[BaseTransform]) -> bool:
    """Whether nothing that makes a sample draws from Python or torch.

    Only where all of it is known: a subclass of a known transform may draw
    from anything, and so may a data set with a way of its own to a sample.

    Args:
        dataset: The data set.
        steps: What follows in its pipeline.
    """
    known_way = isinstance(dataset, BaseDataset) and all(
        getattr(type(dataset), name) is getattr(BaseDataset, name)
        for name in ('__getitem__', 'prepare_data')
    )
    return known_way and all(type(step) in NUMPY_AT_MOST for step in steps)
