# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What in-place training can be, and of which supernets; checked first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from reducenet_mm.plain_numbers import is_number, is_whole

from ..layers import SequentialConv2d
from ..supernet import hosts, is_lora_key
from .norm_stats import find_moving_norms
from .settings import PREDICT_VIEWS, check_choice, check_has_branch

RECOMPUTING = (
    'with_cp',
    'use_checkpoint',
    'memory_efficient',
    'grad_checkpointing',  # timm's
    'gradient_checkpointing',  # Hugging Face's
)
"""Attributes by which networks say that they compute blocks twice."""


def check_inplace_settings(
    distiller: Mapping[str, Any] | None,
    ramp: float,
    sandwich: int,
    teacher_weight: float,
    predict_view: str,
) -> None:
    """Raise ``ValueError`` if a setting or their combination is wrong."""
    check_choice('predict_view', predict_view, PREDICT_VIEWS)
    if not is_number(ramp) or not 0 <= ramp <= 1:
        raise ValueError(
            'model.ramp must be from 0 to 1, a share of all iterations, got '
            f'{ramp!r}.'
        )
    if not is_whole(sandwich) or sandwich < 0:
        raise ValueError(
            'model.sandwich must be an integer >= 0, the number of networks '
            f'between teacher and student in a step, got {sandwich!r}.'
        )
    if not is_number(teacher_weight) or not 0 < teacher_weight < math.inf:
        raise ValueError(
            'model.teacher_weight must be a number > 0, got '
            f'{teacher_weight!r}. To train the student alone, train a '
            'PlainResNet.'
        )
    if distiller is None and ramp > 0:
        raise ValueError(
            f'model.ramp={ramp} has nothing to ramp up: model.distiller is '
            'None. Set one of the two.'
        )
    if sandwich and distiller and distiller.get('distill_deliveries'):
        raise ValueError(
            f'model.sandwich={sandwich} with '
            'model.distiller.distill_deliveries: a delivery reaches one '
            'network only. Set one of the two.'
        )


def check_inplace_architecture(architecture: nn.Module) -> tuple[str, ...]:
    """Return the norms of which both networks keep statistics of their own.

    Args:
        architecture: The supernet; in training mode afterwards.

    Raises:
        ValueError: If it cannot be trained as both networks at once.
    """
    check_has_branch(architecture)
    if any(
        isinstance(host, SequentialConv2d) for _, host in hosts(architecture)
    ):
        raise ValueError(
            "model.architecture.backbone.student_conv='merged' or 'fresh' "
            'gives the student a convolution which the teacher has not got, '
            'so that nothing is trained in place there. Use '
            "student_conv='pair'."
        )
    names = [name for name, _ in architecture.named_parameters()]
    if any(map(is_lora_key, names)):
        raise ValueError(
            'model.architecture.backbone.lora is for a student which is '
            'frozen otherwise; in place, the convolution beside it trains. '
            'Leave it out here and train it in a stage of its own '
            '(SupernetDistill), whose teacher_ckpt and student_init are '
            'both the checkpoint from here.'
        )
    for key in RECOMPUTING:
        for module in architecture.modules():
            if getattr(module, key, False):
                raise ValueError(
                    f'a {type(module).__name__} in model.architecture has '
                    f'{key}=True and is computed again in the backward pass, '
                    'in which the gates are the same for both networks. Set '
                    f'{key}=False.'
                )
    moving = find_moving_norms(architecture, 'live', ())
    if not moving:
        raise ValueError(
            'model.architecture has no batch norm whose statistics move '
            '(norm_eval=True, frozen_stages or another norm), so teacher '
            'and student could not keep their own. Use batch norms and '
            'norm_eval=False.'
        )
    return moving
