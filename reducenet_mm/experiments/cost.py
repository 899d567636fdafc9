# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What training and inference cost, in multiply-adds as of ``steps``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from reducenet_mm.engine.preflight import (
    check_config,
    no_side_effects,
)
from reducenet_mm.engine.toolbox import default_scope
from reducenet_mm.export.plain_model import plain_model_cfg
from reducenet_mm.models.supernet import ungraft

from .steps import mean_multiply_adds

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
DATA_FIELDS = ('train_dataloader', 'default_scope', 'custom_imports')
"""What :func:`read_training_data` depends on, top-level keys."""


@dataclass(frozen=True)
class TrainingData:
    """What an epoch of a config goes through.

    Attributes:
        batch: Its first batch, as the data loader yields it.
        images: Images that it trains on.
        iterations: Its optimizer steps.
    """

    batch: Any
    images: int
    iterations: int


@dataclass(frozen=True)
class TrainingCost:
    """What one epoch of a config costs.

    Attributes:
        per_image: Multiply-adds of one image in one training step: forward
            and backward, the teacher's forward included; trained in
            place, that of all of the step's networks. The mean over the
            training where branches fade or distillation stops.
        images_per_epoch: Images that an epoch trains on.
        iterations_per_epoch: Optimizer steps of an epoch.
        input_shape: (C, H, W) of a preprocessed training image.
    """

    per_image: float
    images_per_epoch: int
    iterations_per_epoch: int
    input_shape: tuple[int, ...]

    @property
    def per_epoch(self) -> float:
        """Multiply-adds of an epoch."""
        return self.per_image * self.images_per_epoch


@dataclass(frozen=True)
class NetworkSize:
    """What a network costs when it is used.

    Attributes:
        params: Number of its parameters, those included that its output does
            not depend on (a teacher's new convolutions for the student),
            unlike in ``benchmarks.complexity``.
        multiply_adds: Of one image alone, in convolutions and linear layers.
    """

    params: int
    multiply_adds: int


def network_size(model: nn.Module, input_shape: Sequence[int]) -> NetworkSize:
    """Count parameters and inference multiply-adds of ``model``.

    Args:
        model: Network that takes an image batch; put into eval mode.
        input_shape: (C, H, W) of one image.
    """
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *input_shape))
    params = sum(param.numel() for param in model.parameters())
    return NetworkSize(params, counter.get_total_flops() // 2)


def build_model(cfg: Config) -> Any:
    """Check and build ``cfg.model``, with random weights.

    A distillation algorithm takes its own random weights as its teacher,
    one trained in place is at its first step; no checkpoint is read.

    Raises:
        ValueError: If a key or a value inside ``cfg.model`` is wrong.
        FileNotFoundError: If data of ``cfg`` is not there.
    """
    model: Any = check_config(cfg, LOADERS, init_weights=False)
    if hasattr(model, 'load_teacher'):
        with no_side_effects():
            model.load_teacher(model.architecture.state_dict())
        # Only the cost is asked for, not what hooks would have done.
        model.recalibrated = model.annealed = True
    if hasattr(model, 'set_position'):  # in place, all steps cost the same
        model.set_position(seed=0, iteration=0, max_iters=1)
    return model


def deployed_model(cfg: Config) -> nn.Module:
    """Build, with random weights, the network that testing ``cfg`` is about.

    For a distillation that is the student as it is exported, so without
    branches; for any other algorithm its architecture.

    Raises:
        ValueError: As :func:`build_model`; likewise ``FileNotFoundError``.
    """
    if 'architecture' in cfg.model:
        try:
            plain = Config({**cfg.to_dict(), 'model': plain_model_cfg(cfg)})
        except ValueError:  # no ReduceNet backbone
            return ungraft(build_model(cfg).architecture)
        return build_model(plain)
    return build_model(cfg)


def read_training_data(cfg: Config) -> TrainingData:
    """Build the training data of ``cfg`` and read the first batch.

    Listing the images of a folder may take long; configs that share
    ``DATA_FIELDS`` can share what is returned.

    Raises:
        FileNotFoundError: If they are not there.
    """
    with no_side_effects():
        loader = _build_loader(cfg, 'train_dataloader')
        batch = next(iter(loader))
    images = len(loader.sampler)  # type: ignore[arg-type]
    if loader.drop_last:
        images = len(loader) * (loader.batch_size or 1)
    return TrainingData(batch, images, iterations=len(loader))


def measure_training(
    cfg: Config,
    read: Callable[[Config], TrainingData] = read_training_data,
) -> TrainingCost:
    """Build what ``cfg`` trains and count one step on its first batch.

    Args:
        cfg: A training config without a ``teacher_ckpt``; left unchanged.
        read: Reads its training data, which are left unchanged. Defaults to
            :func:`read_training_data`.

    Raises:
        ValueError: As :func:`build_model`; likewise ``FileNotFoundError``.
            Or if the network cannot take its own images.
    """
    model = build_model(cfg)
    data = read(cfg)
    with no_side_effects():
        raw = copy.deepcopy(data.batch)
        preprocessed = model.data_preprocessor(raw, training=True)
        inputs = preprocessed['inputs']
        batch = (inputs, preprocessed['data_samples'])
        count = mean_multiply_adds(cfg, model, batch, data.iterations)
    return TrainingCost(
        per_image=count / len(inputs),
        images_per_epoch=data.images,
        iterations_per_epoch=data.iterations,
        input_shape=tuple(inputs.shape[1:]),
    )


def count_test_images(cfg: Config) -> int:
    """Return the number of images of ``cfg.test_dataloader``."""
    with no_side_effects():
        return len(_build_loader(cfg, 'test_dataloader').sampler)  # type: ignore[arg-type]


def _build_loader(cfg: Config, field: str) -> DataLoader:
    loader_cfg = copy.deepcopy(dict(cfg[field]))
    loader_cfg.update(
        num_workers=0, persistent_workers=False, pin_memory=False
    )
    loader_cfg.pop('prefetch_factor', None)
    with DefaultScope.overwrite_default_scope(default_scope(cfg)):
        return Runner.build_dataloader(loader_cfg, seed=0)
