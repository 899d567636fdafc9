# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Whether head, labels and metrics agree on the number of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.registry import METRICS
from mmpretrain.evaluation import Accuracy
from torch import nn

from reducenet_mm.datasets import SampleIndex
from reducenet_mm.datasets.labels import class_labels

from ..toolbox import default_scope
from .data_paths import walk_dicts
from .model_keys import resolve
from .side_effects import no_side_effects


def check_topk(cfg: Config, model: nn.Module, fields: Sequence[str]) -> None:
    """Refuse an accuracy among more classes than the head has.

    Args:
        cfg: The full config.
        model: What ``cfg.model`` builds.
        fields: Top-level keys of evaluators; one not set is passed over.

    Raises:
        ValueError: If a ``topk`` is too large. Evaluating would tell only
            at its end.
    """
    key, classes = classes_of(model)
    if classes is None:
        return
    for field in fields:
        for where, node in walk_dicts(cfg.get(field), field):
            scope = node.get('_scope_', default_scope(cfg))
            target = resolve(node.get('type'), scope, (METRICS,))
            if isinstance(target, type) and issubclass(target, Accuracy):
                _check_node(node, where, key, classes)


def _check_node(node: Mapping, where: str, key: str, classes: int) -> None:
    topk = node.get('topk', (1,))
    largest = max(np.atleast_1d(topk))
    if largest > classes:
        raise ValueError(
            f'{where}.topk={topk}: there is no top-{largest} accuracy among '
            f'{classes} classes ({key}={classes}). Set {where}.topk=(1,).'
        )


def check_labels(model: nn.Module, dataset: Any) -> None:
    """Refuse images of a class that the head does not have.

    What counts is what the pipeline makes of the largest label. Passed over
    are data sets without one class number for each image, and heads without
    ``num_classes`` or with a single logit.

    Args:
        model: What is trained.
        dataset: The training set, built.

    Raises:
        ValueError: If a label is too large; training would stop at the first
            such image, and on a GPU without saying why.
    """
    key, classes = classes_of(model)
    if classes in (None, 1):
        return
    assert classes is not None
    for one in _parts_of(dataset):
        labels = class_labels(one)
        if labels is None or labels.max() < classes:
            continue
        largest = _prepared_label(one, int(labels.argmax()))
        if largest is None or largest < classes:
            continue
        names = getattr(one, 'CLASSES', None) or ()
        needed = max(largest + 1, len(names))
        raise ValueError(
            f'{key}={classes}, but train_dataloader.dataset has labels up to '
            f'{largest}, counted from 0. Set {key}={needed}, and '
            f'data_preprocessor.num_classes={needed} if it is set, or correct '
            'the labels.'
        )


def _parts_of(dataset: Any) -> list[Any]:
    """Return the data sets inside wrappers, each once."""
    if not hasattr(dataset, 'get_data_info'):
        return []
    inner = getattr(dataset, 'datasets', None)
    inner = inner or [getattr(dataset, 'dataset', None)]
    parts = [part for one in inner for part in _parts_of(one)]
    return parts or [dataset]


def _prepared_label(dataset: Any, index: int) -> int | None:
    """Return the class of an image as it is trained on, if it has one."""
    try:
        with no_side_effects():
            prepared = dataset[SampleIndex(index, seed=0, epoch=0)]
    except Exception:  # the training says what is wrong with the image
        return None
    if not isinstance(prepared, Mapping):
        return None
    label = getattr(prepared.get('data_samples'), 'gt_label', None)
    return None if label is None or label.numel() != 1 else int(label)


def classes_of(model: Any) -> tuple[str, int | None]:
    """Return the config key of a classifier's classes, and their number.

    ``None`` if it is no classifier, or of another kind.
    """
    model = model.module if is_model_wrapper(model) else model
    key = 'model.head.num_classes'
    if hasattr(model, 'architecture'):
        model, key = model.architecture, 'model.architecture.head.num_classes'
    count = getattr(getattr(model, 'head', None), 'num_classes', None)
    return key, count if isinstance(count, int) else None
