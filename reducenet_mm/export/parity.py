# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Is the plain network the same function as the supernet at scaler 0?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS
from torch import Tensor, nn

from reducenet_mm.engine.preflight.data_paths import downloads

MISSING_DATA = (AssertionError, OSError, RuntimeError)
"""What MMPretrain's data sets raise where their files are not there."""

NUM_IMAGES = 16
"""How many images two networks are compared on."""


class ParityError(RuntimeError):
    """The plain network is not the same function as the supernet's student."""


def parity_images(cfg: Config, model: Any) -> tuple[Tensor, str]:
    """Return preprocessed images to compare on, and where they are from.

    Args:
        cfg: Config whose ``val_dataloader`` names the real images.
        model: Classifier whose data preprocessor is applied.

    Returns:
        Images (N, C, H, W), and ``'validation'``, or ``'random'`` if the
        validation set is not on this machine. Nothing is downloaded.
    """
    dataset_cfg = (cfg.get('val_dataloader') or {}).get('dataset')
    if dataset_cfg is None:
        return _random_images(model), 'random'
    try:
        dataset = DATASETS.build(_without_download(dataset_cfg))
        samples = [dataset[i] for i in range(min(NUM_IMAGES, len(dataset)))]
    except MISSING_DATA as error:
        print_log(
            'the validation set (val_dataloader.dataset) cannot be read '
            f'({error}); comparing on random images instead.',
            logger='current',
        )
        return _random_images(model), 'random'
    batch = model.data_preprocessor(pseudo_collate(samples), training=False)
    return batch['inputs'], 'validation'


def largest_difference(
    supernet: nn.Module, plain: nn.Module, images: Tensor
) -> float:
    """Return the largest difference of two classifiers' logits in float64.

    Args:
        supernet: Classifier with branches, already at scaler 0. Converted
            to float64 and to eval mode in place, as is ``plain``.
        plain: Classifier without branches.
        images: Preprocessed images (N, C, H, W).

    Returns:
        The maximum over all images and classes; NaN if any logit is.
    """
    logits = []
    for model in (supernet, plain):
        model.double().eval()
        with torch.no_grad():
            logits.append(model(images.double(), mode='tensor'))
    return (logits[0] - logits[1]).abs().max().item()


def check_parity(difference: float, tolerance: float) -> None:
    """Raise unless ``difference`` is a number within ``tolerance``.

    Raises:
        ParityError: If the two networks differ, or have NaN outputs.
    """
    if not difference <= tolerance:
        raise ParityError(
            'the plain network is not the same function as the supernet at '
            f'scaler 0: largest difference {difference:.3g}, tolerance '
            f'{tolerance:.3g} (nan: the weights hold NaN or infinity). '
            'Nothing was written. Is CONFIG the one with which CHECKPOINT '
            'was trained?'
        )


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


def _random_images(model: Any) -> Tensor:
    depth = model.backbone.depth
    side = 224 if depth in (18, 34) else 32
    channels = model.backbone.conv1.in_channels
    generator = torch.Generator().manual_seed(0)
    shape = (NUM_IMAGES, channels, side, side)
    return torch.randn(shape, generator=generator)
