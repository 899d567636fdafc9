# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Real handwritten digits that need no download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmpretrain.datasets import BaseDataset

from ..registry import DATASETS

SPLIT_SEED = 20230601
"""Seed of the fixed split; another value is another benchmark."""
VAL_PER_CLASS = 30
TEST_PER_CLASS = 50
_SPLITS = ('train', 'val', 'test')


@DATASETS.register_module()
class Digits(BaseDataset):
    """Handwritten digits of 8x8 grey pixels, embedded in scikit-learn.

    Source: the test part of E. Alpaydin and C. Kaynak, *Optical Recognition
    of Handwritten Digits*, UCI Machine Learning Repository, 1998, as shipped
    by ``sklearn.datasets.load_digits``: 1,797 images of 10 classes. Its grey
    values 0..16 are scaled to 0..255.

    The split is fixed and class-balanced: 500 test images (50 of each
    class), 300 validation images (30 of each) and the other 997 for training
    (94 to 103 of each).

    A sample, before the pipeline, is what MMPretrain's ``MNIST`` gives, with
    an explicit channel: ``img`` uint8 of shape (8, 8, 1) and ``gt_label``
    int.

    Args:
        split: 'train', 'val' or 'test'. Defaults to 'train'.
        metainfo: Meta information, e.g. other class names. Defaults to None.
        pipeline: Transforms or their configs. Defaults to ().
        indices: Keep only the first so many images, or these. Defaults to
            None, which keeps all.
        test_mode: Raise on a broken sample instead of drawing another.
            Defaults to False.
        lazy_init: Load at first use. Defaults to False.

    Raises:
        ValueError: If ``split`` is none of the three.
        ImportError: If scikit-learn is missing.
    """

    METAINFO = {'classes': tuple(str(digit) for digit in range(10))}

    def __init__(
        self,
        split: str = 'train',
        metainfo: dict | None = None,
        pipeline: Sequence = (),
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ) -> None:
        if split not in _SPLITS:
            raise ValueError(
                f'Digits has the splits {", ".join(_SPLITS)}, got '
                f'split={split!r}. Correct the config key '
                '`*_dataloader.dataset.split`.'
            )
        self.split = split
        super().__init__(
            ann_file='',
            metainfo=metainfo,
            pipeline=pipeline,
            indices=indices,
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return the samples of the split, in scikit-learn's order."""
        images, labels = _load_arrays()
        kept = split_indices(labels)[self.split]
        return [
            dict(img=images[index], gt_label=int(labels[index]))
            for index in kept
        ]

    def extra_repr(self) -> list[str]:
        """Return the lines that ``repr`` adds for this data set."""
        return [f'Split: \t{self.split}']


def split_indices(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Divide the images into the three splits.

    Args:
        labels: Classes, int, shape (N, ).

    Returns:
        Ascending indices into ``labels`` of each split; disjoint, together
        all N.
    """
    rng = np.random.RandomState(SPLIT_SEED)
    parts: dict[str, list[np.ndarray]] = {split: [] for split in _SPLITS}
    for label in np.unique(labels):
        order = rng.permutation(np.flatnonzero(labels == label))
        test, val, train = np.split(
            order, [TEST_PER_CLASS, TEST_PER_CLASS + VAL_PER_CLASS]
        )
        parts['test'].append(test)
        parts['val'].append(val)
        parts['train'].append(train)
    return {
        split: np.sort(np.concatenate(part)) for split, part in parts.items()
    }


def _load_arrays() -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 (1797, 8, 8, 1), and labels, int (1797, )."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'The data set Digits is embedded in scikit-learn, which is not '
            'installed. Type: pip install scikit-learn'
        ) from error
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return images[..., None], digits.target
