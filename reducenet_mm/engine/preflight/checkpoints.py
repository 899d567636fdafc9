# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Check a checkpoint against a model; MMEngine itself loads what fits."""

from __future__ import annotations

import os.path as osp
import pickle
import re
from collections.abc import Mapping

from torch import Tensor, nn

from reducenet_mm.models.checkpoint_checks import (
    IS_DISTILLATION,
    check_state_dict,
)
from reducenet_mm.models.checkpoint_views import (
    is_distill_state_dict,
    read_state_dict,
)
from reducenet_mm.models.supernet import is_branch_key

from .side_effects import no_side_effects


def check_checkpoint(model: nn.Module, path: str) -> None:
    """Refuse a checkpoint file that does not fill ``model`` exactly.

    Args:
        model: The model as the config builds it; it is not changed.
        path: A file, or an address that MMEngine can load from.

    Raises:
        FileNotFoundError: If ``path`` is not there.
        ValueError: If it cannot be read, or holds less, more or other
            tensors than the model; the likely cause is named.
    """
    check_weights(model, read_weights(path), path)


def read_weights(path: str) -> dict[str, Tensor]:
    """Read the weights of a checkpoint file onto the CPU.

    Args:
        path: A file, or an address that MMEngine can load from.

    Returns:
        Name -> tensor, without the prefix of a parallel wrapper.

    Raises:
        FileNotFoundError: If ``path`` is not there.
        ValueError: If it is truncated, holds code or holds no weights.
    """
    if '://' not in path and not osp.isfile(path):
        raise FileNotFoundError(
            f'checkpoint {path!r} is not there, or is no file. Give the .pth '
            'file that training this config wrote to its work directory.'
        )
    try:
        with no_side_effects():
            weights = read_state_dict(path, 'checkpoint')
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f'checkpoint {path!r}: {error}') from error
    return {re.sub(r'^module\.', '', k): v for k, v in weights.items()}


def check_weights(
    model: nn.Module, weights: Mapping[str, Tensor], path: str
) -> None:
    """Refuse weights that do not fill ``model`` exactly.

    Args:
        model: The model as the config builds it; it is not changed.
        weights: Name -> tensor.
        path: Where they come from, for the message.

    Raises:
        ValueError: If names or shapes differ; the likely cause is named.
    """
    wanted = model.state_dict()
    advice = _wrong_kind(wanted, weights)
    if advice is not None:
        raise ValueError(f'checkpoint {path!r} {advice}')
    check_state_dict(model, weights, f'checkpoint {path!r}')


def _wrong_kind(
    wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> str | None:
    """Say what to use instead if the file is of another kind of model."""
    if is_distill_state_dict(weights) and not is_distill_state_dict(wanted):
        return IS_DISTILLATION
    if is_distill_state_dict(wanted) and not is_distill_state_dict(weights):
        return (
            'holds a plain network, the model is a distillation (keys '
            "architecture.*). Use the network's own config, such as the "
            "teacher's; to distil from it, set model.teacher_ckpt."
        )
    extra = weights.keys() - wanted.keys()
    if extra and all(map(is_branch_key, extra)):
        return (
            f'has branches that the model lacks ({len(extra)} keys, e.g. '
            f'{min(extra)}). Use the config it was trained with; to test '
            'its student, add --scaler 0.'
        )
    return None
