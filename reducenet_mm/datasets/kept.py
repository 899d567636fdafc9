# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Images read and decoded once, for data sets that fit into memory.

Used by the trainings of a campaign (``tools/experiment.py --keep-images``):
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
from torch.utils.data import DataLoader

from .readable import LoadReadableImage

FIXED: frozenset[type] = frozenset({CenterCrop, Resize, ResizeEdge})
"""Transforms that draw nothing: the same image in, the same image out."""

ANNOTATIONS = frozenset({'gt_bboxes', 'gt_keypoints', 'gt_seg_map'})
"""What those change along with the image, and what is not of its file."""


class KeptSteps(BaseTransform):
    """Steps of a pipeline that are done once for each image file.

    Samples with any of ``ANNOTATIONS`` are made anew each time.

    Args:
        steps: What reads a file, then any of ``FIXED``.

    Required keys: ``img_path``. Modified and added keys: those of the steps.

    Raises:
        ValueError: If ``steps`` are others.
    """

    def __init__(self, steps: Sequence[BaseTransform]) -> None:
        names = [type(step).__name__ for step in steps]
        if not steps or len(steps) != _count_fixed(steps):
            raise ValueError(
                'steps must be LoadImageFromFile, or LoadReadableImage with '
                'max_unreadable=0, and then any of '
                f'{sorted(kind.__name__ for kind in FIXED)}, got {names}.'
            )
        self.steps = Compose(list(steps))
        self._kept: dict[str, dict[str, Any]] = {}

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add what the steps add; the image is the caller's to change."""
        if ANNOTATIONS & results.keys():
            return self.steps(results)
        path = results['img_path']
        if path not in self._kept:
            done = self.steps(dict(results))
            if done is None:  # an image to be ignored, as a step says
                return None
            added = {
                key: value
                for key, value in done.items()
                if key not in results or value is not results[key]
            }
            # A crop is a view, which would keep the whole image.
            self._kept[path] = {**added, 'img': done['img'].copy()}
        added = self._kept[path]
        return {**results, **added, 'img': added['img'].copy()}

    def __repr__(self) -> str:
        """Show the steps."""
        return f'{type(self).__name__}(steps={self.steps.transforms})'


def keep_images(loader: DataLoader) -> str:
    """Do the fixed steps of a pipeline once for each image file, in place.

    These are the one that reads the file and those of ``FIXED`` that follow
    it at once. Samples stay the same to the bit. Each loader process keeps
    the images that it has made, as large as they are behind these steps.

    Args:
        loader: Of the data set whose pipeline is changed.

    Returns:
        What is done, or why nothing is, for the log.
    """
    if loader.num_workers and not loader.persistent_workers:
        return (
            'No training image is kept: loader processes end with each '
            'epoch. Set train_dataloader.persistent_workers=True, or '
            'num_workers=0.'
        )
    pipeline = getattr(loader.dataset, 'pipeline', None)
    steps = getattr(pipeline, 'transforms', [])
    first = next((i for i, step in enumerate(steps) if _reads(step)), None)
    if first is None:
        return (
            'No training image is kept: the data set has no pipeline of its '
            'own that reads files by LoadImageFromFile, or by '
            'LoadReadableImage with max_unreadable=0.'
        )
    last = first + _count_fixed(steps[first:])
    names = ', '.join(type(step).__name__ for step in steps[first:last])
    steps[first:last] = [KeptSteps(steps[first:last])]
    where = ', in each loader process' if loader.num_workers else ''
    return f'Done once for each training image{where}: {names}.'


def _reads(step: BaseTransform) -> bool:
    """Whether a step makes of a file always the same image."""
    if type(step) is LoadReadableImage:
        return step.max_unreadable == 0  # else another may replace it
    return type(step) is LoadImageFromFile


def _count_fixed(steps: Sequence[BaseTransform]) -> int:
    """Return how many of the first steps can be kept."""
    if not _reads(steps[0]):
        return 0
    count = 1
    while count < len(steps) and type(steps[count]) in FIXED:
        count += 1
    return count
