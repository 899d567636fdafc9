# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Preprocessed images of a config's data, to compare and measure on.

Nothing is downloaded here: what is not on this machine is left out.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmpretrain.models import ResNet_CIFAR
from mmpretrain.registry import DATASETS
from torch import Tensor, nn

from reducenet_mm.datasets.wrapped import innermost
from reducenet_mm.engine.preflight.data_paths import downloads
from reducenet_mm.engine.preflight.model_keys import resolve
from reducenet_mm.engine.toolbox import CLASSIFIERS, scope_of

MISSING_DATA = (AssertionError, OSError, RuntimeError)
"""What data sets raise where their files are not there."""

NUM_IMAGES = 16
"""How many images two classifiers are compared on, of each kind.

Other networks on one: theirs are large, and differ in size.
"""

BATCH_SIZE = 64


class ImageSource:
    """The images that a config names, as its network gets them.

    Args:
        cfg: Config whose ``val_dataloader`` and ``train_dataloader`` name
            the data.
        model: Network whose data preprocessor is applied.

    Attributes:
        missing: Why a loader's data set is left out, one line by key of the
            loader. Empty if all that was asked for can be read.

    Raises:
        ValueError: If ``val_dataloader.dataset`` has an unknown type or
            arguments which its type does not take.
    """

    def __init__(self, cfg: Config, model: Any) -> None:
        self.cfg = cfg
        self.model = model
        self.missing: dict[str, str] = {}
        self._compared = NUM_IMAGES if scope_of(cfg) == CLASSIFIERS else 1
        self._validation: Any = self._build('val_dataloader')

    def to_compare(self) -> dict[str, Tensor]:
        """Return images (N, C, H, W) by kind.

        Returns:
            ``'random'`` ones, normally distributed, and before them
            ``'validation'`` ones if that set is on this machine; where they
            differ in size, those of the commonest one.
        """
        images = {}
        if self._validation is not None:
            chosen = self._batches(self._validation, self._compared)
            images['validation'] = _commonest(b['inputs'] for b in chosen)
        shape = self._shape(images.get('validation'))
        generator = torch.Generator().manual_seed(0)
        images['random'] = torch.randn(shape, generator=generator)
        return images

    def num_validation(self, limit: int | None = None) -> tuple[int, int]:
        """Return how many :meth:`validation` yields, and how many there are.

        Both are 0 where it yields nothing.
        """
        if not self._labelled:
            return 0, 0
        available = len(self._validation)
        return len(_chosen(available, limit)), available

    @functools.cached_property
    def _labelled(self) -> bool:
        found = self._validation
        return found is not None and _one_label_each(found)

    def validation(
        self, limit: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of the validation set with their labels.

        Args:
            limit: How many images at most, drawn from the whole set, the
                same ones each time; None for all, in their order.

        Yields:
            Images (N, C, H, W) and labels (N,); nothing at all where the
            set is not on this machine or has more labels than one an image.
        """
        if not self._labelled:
            return
        for batch in self._batches(self._validation, limit):
            labels = [sample.gt_label for sample in batch['data_samples']]
            yield batch['inputs'], torch.stack(labels).flatten()

    def calibration(self, count: int) -> list[Tensor]:
        """Return batches of training images, as validation prepares them.

        Args:
            count: How many images at most, drawn from the whole set, the
                same ones each time.

        Raises:
            ValueError: If the training set is not on this machine, its
                config has an unknown type or wrong arguments, or
                ``val_dataloader`` does not say how to prepare its images.
        """
        prepared = (self.cfg.get('val_dataloader') or {}).get('dataset')
        if prepared is None:
            raise ValueError(
                '--int8 is calibrated on the images of train_dataloader, '
                'prepared by the pipeline of val_dataloader.dataset, and '
                'this config has none. Add a val_dataloader, or leave out '
                '--int8.'
            )
        dataset = self._build('train_dataloader', like=prepared)
        if dataset is None:
            raise ValueError(
                '--int8 is calibrated on training images, and '
                'train_dataloader.dataset cannot be read here: '
                f'{self.missing["train_dataloader"]}. Put the data where the '
                'config says, or leave out --int8.'
            )
        return [batch['inputs'] for batch in self._batches(dataset, count)]

    def _batches(
        self, dataset: Any, limit: int | None
    ) -> Iterator[dict[str, Any]]:
        """Yield batches of one size of images each, so that none is padded."""
        batch: list[Any] = []
        for index in _chosen(len(dataset), limit):
            sample = dataset[index]
            if batch and (len(batch) == BATCH_SIZE or _differ(batch, sample)):
                yield self._preprocess(batch)
                batch = []
            batch.append(sample)
        if batch:
            yield self._preprocess(batch)

    def _preprocess(self, samples: list[Any]) -> dict[str, Any]:
        return self.model.data_preprocessor(
            pseudo_collate(samples), training=False
        )

    def _build(self, loader: str, like: Any = None) -> Any | None:
        """Build the data set of a loader, or return None and keep the reason.

        Args:
            loader: Key of the loader.
            like: Config of the data set whose pipeline is used instead.
        """
        dataset = (self.cfg.get(loader) or {}).get('dataset')
        if dataset is None:
            self.missing[loader] = f'the config has no {loader}.dataset'
            return None
        dataset = _without_download(dataset)
        if like is not None:
            _copy_pipeline(like, dataset)
        try:
            built = DATASETS.build(dataset)
            reason = '' if len(built) else 'it has no images'
        except MISSING_DATA as error:
            reason = ' '.join(str(error).split()) or type(error).__name__
        except (KeyError, TypeError) as error:
            # MMEngine's answers to an unknown type and to wrong arguments.
            raise ValueError(
                f'{loader}.dataset cannot be built ({type(error).__name__}: '
                f'{error}). Correct the config key `{loader}.dataset.type` '
                'or what stands beside it.'
            ) from error
        if reason:
            self.missing[loader] = reason
            return None
        return built

    def _shape(self, real: Tensor | None) -> tuple[int, ...]:
        if real is not None:
            return (self._compared, *real.shape[1:])
        side = 32 if isinstance(self.model.backbone, ResNet_CIFAR) else 224
        convs = (m for m in self.model.modules() if isinstance(m, nn.Conv2d))
        return (self._compared, next(convs).in_channels, side, side)


def _commonest(batches: Iterable[Tensor]) -> Tensor:
    """Return the images of the size that most of them have."""
    by_size: dict[torch.Size, list[Tensor]] = {}
    for images in batches:
        by_size.setdefault(images.shape[1:], []).append(images)
    return max(map(torch.cat, by_size.values()), key=len)


def _differ(batch: list[Any], sample: Any) -> bool:
    """Whether an image has another size than those of a batch."""
    return sample['inputs'].shape != batch[0]['inputs'].shape


def _chosen(count: int, limit: int | None) -> list[int]:
    """Return which of ``count`` images to take.

    Many sets are sorted by class, so the first ones would be of one class.
    """
    if limit is None or limit >= count:
        return list(range(count))
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(count, generator=generator)[:limit].tolist()


def _one_label_each(dataset: Any) -> bool:
    """Whether every image of a data set has exactly one label.

    Of a data set without data infos, or without labels in them, all images
    are read; of others the first one, to see that labels get this far.
    """
    info_of: Any = getattr(dataset, 'get_data_info', lambda index: {})
    for index in range(len(dataset)):
        label = info_of(index).get('gt_label')
        if label is None or index == 0:
            sample = dataset[index].get('data_samples')
            label = getattr(sample, 'gt_label', ())
        if torch.as_tensor(label).numel() != 1:
            return False
    return True


def _copy_pipeline(source: Any, target: Any) -> None:
    """Give all data sets of ``target`` the pipeline of the first source."""
    pipeline = innermost(source)[0].get('pipeline')
    for dataset in innermost(target):
        dataset.pop('pipeline', None)
        if pipeline is not None:
            dataset['pipeline'] = copy.deepcopy(pipeline)


def _without_download(value: Any) -> Any:
    if isinstance(value, Mapping):
        copied = {key: _without_download(val) for key, val in value.items()}
        scope = copied.get('_scope_')
        target = resolve(copied.get('type'), scope, (DATASETS,))
        if target is not None and downloads(copied, target):
            copied['download'] = False
        return copied
    if isinstance(value, (list, tuple)):
        return type(value)(_without_download(item) for item in value)
    return value
