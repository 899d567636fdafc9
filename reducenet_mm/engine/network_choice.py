# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which of the two networks a test is about: the teacher or the student."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from reducenet_mm.models.checkpoint_checks import IS_NOT_MERGED
from reducenet_mm.models.checkpoint_views import (
    ARCHITECTURE,
    is_distill_state_dict,
    split_state_dict,
    strip_prefix,
)
from reducenet_mm.models.supernet import check_scaler, hosts, is_lora_key

from .preflight.model_keys import accepted_keys, resolve
from .toolbox import CLASSIFIERS

_VIEWS = {1.0: 'teacher', 0.0: 'student'}


def choose_network(model_cfg: Mapping[str, Any], scaler: float) -> Any:
    """Return the model config which answers as the network of ``scaler``.

    A plain config gets ``backbone.scaler``, a distillation config
    ``predict_view``.

    Args:
        model_cfg: The config's ``model``; it is not changed.
        scaler: 1 for the teacher, 0 for the student; a plain config takes
            any value between too.

    Raises:
        ValueError: If ``scaler`` is out of range, or there is nothing that
            it could switch.
    """
    scaler = check_scaler(scaler)
    chosen: Any = copy.deepcopy(model_cfg)
    if 'architecture' in model_cfg:
        if scaler not in _VIEWS:
            raise ValueError(
                'a distillation config answers as its teacher (--scaler 1) '
                f'or as its student (--scaler 0), got --scaler {scaler}.'
            )
        chosen['predict_view'] = _VIEWS[scaler]
    elif 'backbone' in model_cfg:
        if chosen['backbone'].get('deploy') and scaler != 0:
            raise ValueError(
                f'--scaler {scaler}: the config builds the deployed student '
                'alone (model.backbone.deploy=True). Leave out one of the '
                'two.'
            )
        _check_switchable(chosen['backbone'], scaler)
        chosen['backbone']['scaler'] = scaler
    else:
        raise ValueError(
            f'--scaler {scaler} has nothing to switch: the config has '
            'neither model.backbone nor model.architecture.'
        )
    return chosen


def _check_switchable(backbone: Mapping[str, Any], scaler: float) -> None:
    kind = backbone.get('type')
    target = resolve(kind, backbone.get('_scope_', CLASSIFIERS), (MODELS,))
    known = None if target is None else accepted_keys(target)
    if known is not None and 'scaler' not in known:
        raise ValueError(
            f'--scaler {scaler} has nothing to switch: model.backbone.type='
            f'{kind!r} has no branches. Leave it out.'
        )


def plain_weights(
    model: nn.Module, weights: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """Take the network of a plain ``model`` out of a distillation file.

    Args:
        model: The model as the config builds it. Without branches it is
            the student; otherwise its ``scaler`` decides.
        weights: The file's name -> tensor.

    Returns:
        What fills ``model``, or ``None`` if there is nothing to take out:
        the file is a plain network's, or the model a distillation.

    Raises:
        ValueError: If the file has not got the network asked for, or its
            student has ``lora`` branches that the model would lose.
    """
    if not is_distill_state_dict(weights) or is_distill_state_dict(
        model.state_dict()
    ):
        return None
    teacher, student = split_state_dict(weights)
    scalers = {host.scaler for _, host in hosts(model)}
    has_lora = any(map(is_lora_key, model.state_dict()))
    if scalers in (set(), {0.0}):
        if any(map(is_lora_key, student)) and not has_lora:
            raise ValueError(f'this checkpoint {IS_NOT_MERGED}')
        return strip_prefix(weights, ARCHITECTURE) if scalers else student
    if teacher is None:
        raise ValueError(
            'this distillation checkpoint keeps no teacher beside the '
            'student: the stage had no distiller, or changed nothing of the '
            "teacher. Use the teacher's own checkpoint, "
            "or the student's config for the student."
        )
    if scalers == {1.0}:
        if has_lora:
            return teacher
        return {k: v for k, v in teacher.items() if not is_lora_key(k)}
    raise ValueError(
        'a distillation checkpoint holds the networks for --scaler 1 and '
        f'--scaler 0, got model.backbone.scaler={scalers.pop()}.'
    )
