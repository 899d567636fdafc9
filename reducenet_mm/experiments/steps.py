# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Multiply-adds of training steps, which may change during a training.

Counted are convolutions and linear layers (matrix products); norms,
activations and the losses' element-wise work are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from reducenet_mm.compat.flop_formula import FLOP_FORMULAS
from reducenet_mm.engine.preflight import hooks_with, told_by_layer
from reducenet_mm.engine.preflight.hooks import hook_classes
from reducenet_mm.models.supernet import set_gates

COUNTED = 'convolutions and linear layers'


def mean_multiply_adds(
    cfg: Config, model: BaseModel, batch: tuple[Tensor, Any], length: int
) -> float:
    """Count a training step of a batch, averaged over the training.

    Args:
        cfg: The training config.
        model: What it trains, all branches off, and left so.
        batch: Preprocessed batch (N, C, H, W) and its labels.
        length: Iterations of an epoch.

    Raises:
        ValueError: If a setting of a hook is wrong; likewise ``TypeError``.
            Or if the network cannot take the images.
    """
    with told_by_layer(model):
        student = step_multiply_adds(model, *batch)
    added = _annealing(cfg, model, batch, length, student)
    return student + added - _stopping(cfg, model, batch, student)


def step_multiply_adds(
    model: BaseModel, inputs: Tensor, data_samples: Any
) -> int:
    """Count one real training step of ``model``.

    Whatever autograd does not compute, such as the weight gradients of
    frozen layers, is not counted; a teacher's forward pass is. Weights stay
    as they are; norm statistics move, gradients are cleared.

    Args:
        model: Any MMEngine model.
        inputs: Preprocessed batch (N, C, H, W).
        data_samples: Its labels.

    Returns:
        Multiply-adds of the whole batch.
    """
    model.train()
    with FlopCounterMode(
        display=False, custom_mapping=FLOP_FORMULAS
    ) as counter:
        losses = model(inputs, data_samples, mode='loss')
        total, _ = model.parse_losses(losses)
        total.backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops() // 2


def fading_hooks(cfg: Config) -> list[Any]:
    """Build the hooks of a config during whose time a student has branches.

    These are ``ScalerScheduleHook`` and what has its ``fading_ramps`` too.

    Raises:
        ValueError: If a setting of one is wrong; likewise ``TypeError``.
    """
    return list(hooks_with(cfg, 'fading_ramps'))


def stop_epochs(cfg: Config) -> list[int]:
    """Return the epochs at which MMRazor's ``StopDistillHook`` comes in.

    A subclass may do something else; it is taken for one that never stops.
    """
    return [
        entry['stop_epoch']
        for _, entry, kind in hook_classes(cfg)
        if kind.__name__ == 'StopDistillHook'
        and isinstance(entry, Mapping)
        and 'stop_epoch' in entry
    ]


def _annealing(
    cfg: Config,
    model: BaseModel,
    batch: tuple[Tensor, Any],
    length: int,
    student: int,
) -> float:
    """Return what fading branches add to a step, averaged over the training.

    Args:
        cfg: The training config.
        model: What it trains, all branches off, and left so.
        batch: Preprocessed batch and its labels.
        length: Iterations of an epoch.
        student: Multiply-adds of the batch without branches.
    """
    epochs = cfg.train_cfg.get('max_epochs')
    total = cfg.train_cfg.max_iters if epochs is None else epochs * length
    network = getattr(model, 'architecture', model)
    added = 0.0
    for hook in fading_hooks(cfg):
        moving = hook.fading_ramps(
            network, total, None if epochs is None else length
        )
        for gates, ramp in moving.values():
            set_gates(gates, ramp.start)  # the work is the same at any other
            with_branches = step_multiply_adds(model, *batch)
            added += (with_branches - student) * (ramp.end / total)
            set_gates(gates, 0.0)
    return added


def _stopping(
    cfg: Config, model: BaseModel, batch: tuple[Tensor, Any], student: int
) -> float:
    """Return what a step saves without its teacher, averaged likewise.

    Args:
        cfg: The training config.
        model: What it trains.
        batch: Preprocessed batch and its labels.
        student: Multiply-adds of the batch with the teacher.
    """
    epochs = cfg.train_cfg.get('max_epochs')
    if epochs is None:
        return 0.0  # the hook looks at the beginning of epochs
    first = max(0, min(stop_epochs(cfg), default=epochs))
    if first >= epochs:
        return 0.0
    model.distillation_stopped = True
    alone = step_multiply_adds(model, *batch)
    model.distillation_stopped = False
    return (student - alone) * (1 - first / epochs)
