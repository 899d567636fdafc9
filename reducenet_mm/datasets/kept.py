# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Images read and decoded once, for data sets that fit into memory.

Read by the trainings of a campaign (``tools/experiment.py --keep-images``):
dozens of epochs on the same small images, where decoding takes longer than
the network does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.transforms import (
    BaseTransform,
    CenterCrop,
    LoadImageFromFile,
    Resize,
)
from mmengine.dataset import Compose
from mmpretrain.datasets.transforms import ResizeEdge

FIXED: frozenset[type] = frozenset({CenterCrop, Resize, ResizeEdge})
"""What draws nothing and makes of an image always the same one."""


class KeptSteps(BaseTransform):
    """Steps of a pipeline that are done once for each image file.

    Args:
        steps: ``LoadImageFromFile``, then any of ``FIXED``.

    Required keys: ``img_path``. Modified and added keys: those of the steps.
    """

    def __init__(self, steps: Sequence[BaseTransform]) -> None:
        self.steps = list(steps)
        self._kept: dict[str, dict[str, Any]] = {}

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add what the steps add; the image is the caller's to change."""
        path = results['img_path']
        if path not in self._kept:
            done = Compose(self.steps)(dict(results))
            if done is None:  # an image to be ignored, as a step says
                return None
            self._kept[path] = {
                key: value
                for key, value in done.items()
                if key not in results or value is not results[key]
            }
        added = self._kept[path]
        return {**results, **added, 'img': added['img'].copy()}

    def __repr__(self) -> str:
        """Show the steps."""
        return f'{type(self).__name__}(steps={self.steps})'


def keep_images(dataset: Any) -> list[str]:
    """Do the fixed steps of a data set's pipeline once an image, in place.

    These are ``LoadImageFromFile`` and those of ``FIXED`` that follow it at
    once. Samples stay the same to the bit. Each loader process keeps the
    images that it has read, as large as they are behind these steps.

    Args:
        dataset: The data set.

    Returns:
        The names of these steps; none if no file is read in the pipeline.
    """
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    kinds = [type(step) for step in steps]
    if LoadImageFromFile not in kinds:
        return []
    first = kinds.index(LoadImageFromFile)
    last = first + 1
    while last < len(kinds) and kinds[last] in FIXED:
        last += 1
    steps[first:last] = [KeptSteps(steps[first:last])]
    return [kind.__name__ for kind in kinds[first:last]]
