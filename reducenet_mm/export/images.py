# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Preprocessed images of a config's data, to compare and measure on.

Nothing is downloaded here: what is not on this machine is left out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS
from torch import Tensor, nn

from reducenet_mm.engine.preflight.data_paths import downloads

from .student_backbone import StudentResNet_CIFAR

MISSING_DATA = (AssertionError, OSError, RuntimeError)
"""What MMPretrain's data sets raise where their files are not there."""

NUM_IMAGES = 16
"""How many images two networks are compared on, of each kind."""

BATCH_SIZE = 64


class ImageSource:
    """The images that a config names, as its classifier's network gets them.

    Args:
        cfg: Config whose ``val_dataloader`` and ``train_dataloader`` name
            the data.
        model: Classifier whose data preprocessor is applied.
    """

    def __init__(self, cfg: Config, model: Any) -> None:
        self.cfg = cfg
        self.model = model
        self._validation = self._build('val_dataloader')

    def to_compare(self) -> dict[str, Tensor]:
        """Return images (N, C, H, W) by kind.

        Returns:
            ``'random'`` ones, normally distributed, and before them
            ``'validation'`` ones if that set is on this machine.
        """
        images = {}
        if self._validation is not None:
            count = min(NUM_IMAGES, len(self._validation))
            samples = [self._validation[index] for index in range(count)]
            images['validation'] = self._preprocess(samples)['inputs']
        shape = self._shape(images.get('validation'))
        generator = torch.Generator().manual_seed(0)
        images['random'] = torch.randn(shape, generator=generator)
        return images

    def validation(
        self, limit: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of the validation set with their labels.

        Args:
            limit: How many images at most; None for all.

        Yields:
            Images (N, C, H, W) and labels (N,); nothing at all where the
            set is not on this machine or has more labels than one an image.
        """
        if self._validation is None:
            return
        count = len(self._validation)
        count = min(limit or count, count)
        for batch in self._batches(self._validation, count):
            labels = [
                getattr(sample, 'gt_label', torch.empty(0))
                for sample in batch['data_samples']
            ]
            if any(label.numel() != 1 for label in labels):
                return
            yield batch['inputs'], torch.stack(labels).flatten()

    def calibration(self, count: int) -> list[Tensor]:
        """Return batches of training images, as validation prepares them.

        Args:
            count: How many images at most, the first ones.

        Raises:
            ValueError: If the training set is not on this machine.
        """
        dataset = self._build('train_dataloader', self._test_pipeline())
        if dataset is None:
            raise ValueError(
                'quantisation is calibrated on training images, and '
                'train_dataloader.dataset cannot be read here. Put the data '
                'where the config says, or leave out --int8.'
            )
        batches = self._batches(dataset, min(count, len(dataset)))
        return [batch['inputs'] for batch in batches]

    def _batches(self, dataset: Any, count: int) -> Iterator[dict[str, Any]]:
        for start in range(0, count, BATCH_SIZE):
            indices = range(start, min(start + BATCH_SIZE, count))
            yield self._preprocess([dataset[index] for index in indices])

    def _preprocess(self, samples: list[Any]) -> dict[str, Any]:
        return self.model.data_preprocessor(
            pseudo_collate(samples), training=False
        )

    def _build(
        self, loader: str, pipeline: list[Any] | None = None
    ) -> Any | None:
        """Build the data set of a loader, or return None, and say why."""
        dataset = (self.cfg.get(loader) or {}).get('dataset')
        if dataset is None:
            return None
        dataset = _without_download(dataset)
        if pipeline is not None:
            _innermost(dataset)['pipeline'] = copy.deepcopy(pipeline)
        try:
            return DATASETS.build(dataset)
        except MISSING_DATA as error:
            print_log(
                f'{loader}.dataset cannot be read ({error}); going on '
                'without its images.',
                logger='current',
            )
            return None

    def _test_pipeline(self) -> list[Any] | None:
        dataset = (self.cfg.get('val_dataloader') or {}).get('dataset')
        return None if dataset is None else _innermost(dataset).get('pipeline')

    def _shape(self, real: Tensor | None) -> tuple[int, ...]:
        if real is not None:
            return (NUM_IMAGES, *real.shape[1:])
        side = (
            32 if isinstance(self.model.backbone, StudentResNet_CIFAR) else 224
        )
        convs = (m for m in self.model.modules() if isinstance(m, nn.Conv2d))
        return (NUM_IMAGES, next(convs).in_channels, side, side)


def _innermost(dataset: Any) -> Any:
    """Return the data set's config inside wrappers such as HoldoutSplit."""
    while isinstance(dataset.get('dataset'), Mapping):
        dataset = dataset['dataset']
    return dataset


def _without_download(value: Any) -> Any:
    if isinstance(value, Mapping):
        copied = {key: _without_download(val) for key, val in value.items()}
        target = DATASETS.get(str(copied.get('type')))
        if target is not None and downloads(copied, target):
            copied['download'] = False
        return copied
    if isinstance(value, (list, tuple)):
        return [_without_download(item) for item in value]
    return value
