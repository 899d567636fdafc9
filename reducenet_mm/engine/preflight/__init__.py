# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Checks of a config and its files before any work is done.

Nothing is written, no folder is made, and the random state is left as it
was. Each check raises one ``ValueError``, ``TypeError`` or
``FileNotFoundError`` that names the config key, the value and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized

from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from torch import nn
from torch.utils.data import DataLoader

from .beside_model import check_beside_model
from .build import build_model
from .checkpoints import check_checkpoint, check_weights, read_weights
from .classes import check_labels, check_topk
from .data_paths import check_data_paths
from .forwards import check_forwards
from .hooks import check_hooks, hooks_with
from .metric_names import check_measured, check_metric_names
from .model_keys import accepted_keys, check_model_keys, walk_model
from .optimizing import check_optimizing
from .resuming import forget_missing_inputs
from .schedule import schedule_warning
from .sections import check_sections, check_together
from .side_effects import no_side_effects
from .trial import check_image, told_by_layer

__all__ = [
    'accepted_keys',
    'build_model',
    'check_beside_model',
    'check_checkpoint',
    'check_config',
    'check_data',
    'check_data_paths',
    'check_forwards',
    'check_hooks',
    'check_image',
    'check_labels',
    'check_measured',
    'check_metric_names',
    'check_model_keys',
    'check_optimizing',
    'check_sections',
    'check_together',
    'check_topk',
    'check_weights',
    'forget_missing_inputs',
    'hooks_with',
    'no_side_effects',
    'read_weights',
    'schedule_warning',
    'told_by_layer',
    'walk_model',
]


def check_config(
    cfg: Config, loaders: Sequence[str], *, init_weights: bool
) -> nn.Module:
    """Check model, data and metrics of a config, building the model once.

    Args:
        cfg: The full config; it is not changed.
        loaders: Top-level keys of the dataloaders whose data must exist,
            and whose evaluators must fit the model; one that is not set is
            passed over.
        init_weights: Whether to initialise the model too, which reads the
            checkpoints that its config names.

    Returns:
        The model, on the CPU.

    Raises:
        ValueError: If a key or a value inside ``model`` is wrong, or beside
            it, a checkpoint does not fit, or a metric needs more classes.
        TypeError: If a value inside ``model`` has the wrong type.
        FileNotFoundError: If data or a checkpoint is not there.
    """
    with no_side_effects():
        nodes = walk_model(cfg)
        check_model_keys(nodes)
        check_beside_model(cfg, loaders)
        for field in loaders:
            check_data_paths(cfg, field)
        model = build_model(cfg, nodes, init_weights=init_weights)
        check_topk(cfg, model, [_evaluator_of(field) for field in loaders])
        return model


def check_data(model: nn.Module, loader: DataLoader) -> None:
    """Check that a network can be trained on a training set.

    To be called when both are built, but for a run that is resumed.

    Args:
        model: What will be trained.
        loader: Of the training set.

    Raises:
        ValueError: If there is not one batch, or the network cannot take
            the labels or the images.
    """
    _check_batches(loader)
    check_labels(model, loader.dataset)
    check_image(model, loader.dataset)


def _check_batches(loader: DataLoader) -> None:
    sampler = loader.sampler
    if not loader.drop_last or isinstance(sampler, InfiniteSampler):
        return
    if not isinstance(sampler, Sized):  # an iterable data set's
        return
    images = len(sampler)
    if images < (loader.batch_size or 0):
        raise ValueError(
            f'train_dataloader has {images} images for each process, which '
            f'are no batch of batch_size={loader.batch_size} with '
            'drop_last=True. Set batch_size to that many at most, or '
            'drop_last=False.'
        )


def _evaluator_of(loader: str) -> str:
    return loader.replace('_dataloader', '_evaluator')
