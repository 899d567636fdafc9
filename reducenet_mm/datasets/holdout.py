# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A fixed validation set, cut from the training set."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from ..registry import DATASETS
from .labels import class_labels
from .quotas import KEY, check_int, equal_quota, proportional_quota
from .wrapped import innermost

_PARTS = ('train', 'val')


@DATASETS.register_module(name='HoldoutSplit')
def holdout_split(
    dataset: dict[str, Any],
    part: str,
    val_size: int,
    seed: int = 0,
    train_size: int | None = None,
    stratified: bool = False,
    pipeline: Sequence[Any] | None = None,
) -> BaseDataset:
    """Build a training set and keep one part of it, in place.

    The registered name is ``HoldoutSplit``. What comes back is the inner
    data set itself, so nothing that asks it for ``metainfo``, ``CLASSES`` or
    ``get_gt_labels`` notices. Which images are kept depends only on the
    labels and on ``seed``; see :func:`holdout_indices`.

    Args:
        dataset: Config of the inner data set, with integer ``gt_label``.
            Unchanged.
        part: 'train' or 'val'.
        val_size: Number of images to hold out for validation.
        seed: Seed of the split. Defaults to 0.
        train_size: Number of images to train on. Defaults to None, which
            means all that are not held out. Ignored by ``part='val'``.
        stratified: Whether classes have the same shares in a part as in the
            whole; a class of two images or more is in both parts. Defaults
            to False, which means that all classes have equally many: where
            they are not equally large, only as many images can be held out
            as the scarcest class allows.
        pipeline: That of ``dataset`` once more, for tools that look for it
            here, as MMPretrain's inferencer does. Defaults to None, which
            is as good for all else.

    Returns:
        The inner data set, fully initialised, with fewer images.

    Raises:
        ValueError: If ``part``, ``val_size``, ``seed`` or ``train_size`` is
            out of range, or ``pipeline`` is not that of ``dataset``.
        FileNotFoundError: If the images are not where the config says and
            could not be downloaded.
        RuntimeError: If the folder is there but its content is not the data
            set.
        TypeError: If the inner data set cannot be divided.

    Examples:
        >>> from mmpretrain.registry import DATASETS
        >>> import reducenet_mm
        >>> val = DATASETS.build(dict(
        ...     type='HoldoutSplit', part='val', val_size=100,
        ...     dataset=dict(type='Digits')))
        >>> len(val), type(val).__name__
        (100, 'Digits')
    """
    if part not in _PARTS:
        raise ValueError(
            f'HoldoutSplit has the parts {" and ".join(_PARTS)}, got '
            f'part={part!r}. Correct the config key `{KEY}.part`.'
        )
    inner = innermost(dataset)[0].get('pipeline')
    if pipeline is not None and list(pipeline) != list(inner or ()):
        raise ValueError(
            f'`{KEY}.pipeline` of a HoldoutSplit only repeats '
            f'`{KEY}.dataset.pipeline`, and they differ. Change both, or '
            'leave out the first.'
        )
    built = _build(dataset)
    kept = holdout_indices(
        _labels(built), part, val_size, seed, train_size, stratified
    )
    built.get_subset_(kept.tolist())
    return built


def holdout_indices(
    labels: np.ndarray,
    part: str,
    val_size: int,
    seed: int = 0,
    train_size: int | None = None,
    stratified: bool = False,
) -> np.ndarray:
    """Return the ascending indices of one part of a training set.

    The images of each class are permuted by one legacy ``RandomState``
    (whose stream NumPy keeps stable across versions). The first ones of each
    class are held out; the next ones are trained on. So the parts are
    disjoint, without ``train_size`` they are together the whole set, and a
    smaller size of a part is contained in a larger one. Sizes that cannot be
    divided as they should be give the first classes one image more.

    Args:
        labels: Classes, int, shape (N, ).
        part: 'train' or 'val'.
        val_size: Number of images held out.
        seed: Seed of the permutations. Defaults to 0.
        train_size: Number of images of the train part. Defaults to None,
            which means all that are left.
        stratified: Whether shares of a part are those of the whole instead
            of equal ones.

    Returns:
        Indices into ``labels``, int, shape (size of the part, ).

    Raises:
        ValueError: If a size or the seed is out of range.
    """
    check_int('seed', seed, 0, 2**32 - 1, 'the seed of the split')
    rng = np.random.RandomState(seed)
    classes = [np.flatnonzero(labels == name) for name in np.unique(labels)]
    orders = [rng.permutation(members) for members in classes]
    quota = proportional_quota if stratified else equal_quota
    # Each class keeps at least one image to train on.
    val_quota = quota(
        'val_size', val_size, [len(order) - 1 for order in orders]
    )
    if part == 'val':
        kept = [order[:n] for order, n in zip(orders, val_quota, strict=True)]
    else:
        kept = [order[n:] for order, n in zip(orders, val_quota, strict=True)]
        if train_size is not None:
            train_quota = quota(
                'train_size', train_size, [len(order) for order in kept]
            )
            kept = [
                order[:n] for order, n in zip(kept, train_quota, strict=True)
            ]
    return np.sort(np.concatenate(kept))


def _build(cfg: dict[str, Any]) -> BaseDataset:
    """Build the inner data set and load its list of images."""
    with _explained(cfg):
        built = DATASETS.build(cfg)
        if isinstance(built, BaseDataset):
            built.full_init()
            return built
    raise TypeError(
        'HoldoutSplit divides subclasses of mmengine.dataset.BaseDataset, '
        f'got {type(built).__name__}. Correct the config key '
        f'`{KEY}.dataset.type`; wrappers belong outside HoldoutSplit.'
    )


def _labels(dataset: BaseDataset) -> np.ndarray:
    labels = class_labels(dataset)
    if labels is None:
        raise TypeError(
            'HoldoutSplit needs one class number (`gt_label`) for each image, '
            f'which {type(dataset).__name__} does not give. Correct the '
            f'config key `{KEY}.dataset.type`.'
        )
    return labels


@contextlib.contextmanager
def _explained(cfg: dict[str, Any]) -> Iterator[None]:
    """Turn a data set's failure to load into an error that says what to do.

    Folders that a failed download has created and left empty are removed.
    """
    root = str(cfg.get('data_root') or cfg.get('data_prefix') or '')
    is_local = '://' not in root
    folder = Path(root).expanduser().absolute()
    created = [
        path
        for path in (folder, *folder.parents)
        if is_local and not path.exists()
    ]
    try:
        yield
    # MMPretrain reports missing files by all three.
    except (OSError, RuntimeError, AssertionError) as error:
        for path in created:
            with contextlib.suppress(OSError):
                path.rmdir()
        where = str(folder) if is_local else root
        missing = is_local and not os.path.isdir(where)
        kind = (
            FileNotFoundError
            if missing or isinstance(error, OSError)
            else RuntimeError
        )
        raise kind(
            f'The data set {cfg.get("type")} could not be loaded: '
            f'data_root={cfg.get("data_root")!r}, that is {where}, '
            f'{"does not exist" if missing else "lacks some of its files"} '
            f'({type(error).__name__}: {error}). Put the data set there, or '
            'name its folder by the config keys '
            '`train_dataloader.dataset.dataset.data_root`, '
            '`val_dataloader.dataset.dataset.data_root` and '
            '`test_dataloader.dataset.data_root`.'
        ) from error
