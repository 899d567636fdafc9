# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The models whose training steps are compared: ways to train a student."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS

from reducenet_mm.export.plain_data import unscoped
from reducenet_mm.export.plain_model import (
    GRAFTED,
    plain_model_cfg,
    supernet_cfg,
)
from reducenet_mm.models.supernet import (
    set_gates,
    set_scaler,
    student_gates,
    ungraft,
)

Models = dict[str, BaseModel]

HALFWAY = 0.5
"""Scaler of ``annealed``: a step costs the same at any between 0 and 1."""

TRAIN_ALL: Mapping[str, Any] = dict(
    reuse=dict(inherit='all', freeze=[]), norm_stats='live'
)


def build_variants(
    cfg: Config,
    lora_policy: Mapping[str, Any],
    new_conv_policy: Mapping[str, Any],
) -> tuple[Models, Models]:
    """Build all models, the teachers of the same block with equal weights.

    Args:
        cfg: Its ``model`` is the supernet's classifier, or a student stage.
        lora_policy: ``reuse`` and ``norm_stats`` of a stage in which only
            ``lora`` trains.
        new_conv_policy: Those of one in which only the main convolution
            trains.

    Returns:
        Name -> model, and name -> teacher where it is not in the model.
        A ``sequential`` block has no ``lora``, a ``GraftedBackbone`` has
        what :func:`build_scalers` returns instead of ``new_conv``.
    """
    teacher = _teacher_cfg(cfg)
    plain_cfg = dict(plain_model_cfg(cfg), _scope_='mmpretrain')
    models = dict(plain=MODELS.build(plain_cfg))
    models['mmrazor'] = _distill(
        plain_cfg,
        type='SingleTeacherDistill',
        teacher=copy.deepcopy(teacher),
    )
    known = models['mmrazor'].teacher.state_dict()

    def student(policy: Mapping = TRAIN_ALL, **backbone: Any) -> BaseModel:
        model = _stage(_teacher_cfg(cfg, **backbone), policy)
        model.load_teacher(known)
        return model

    models['supernet'] = student()
    models['annealed'] = student()
    for gate in ('expand', 'lambda_relu'):
        gates = student_gates(models['annealed'].architecture, gate)
        set_gates(gates, HALFWAY)
    models['inplace'] = _distill(teacher, type='InplaceDistill')
    grafted = unscoped(teacher['backbone']['type']) == GRAFTED
    if teacher['backbone'].get('block') != 'sequential':
        models['weight_lora'] = student(lora_policy, lora=dict(kind='weight'))
    if grafted:
        return {**models, **build_scalers(teacher)}, {}
    if 'weight_lora' in models:
        convs = dict(kind='kxk_1x1', inner_norm=True)
        models['conv_lora'] = student(lora_policy, lora=convs)
    block = dict(block='sequential', zero_init_expand=False)
    pair = _teacher_cfg(cfg, **block)
    small = plain_model_cfg(Config(dict(model=pair)))
    models['plain_teacher'] = MODELS.build(dict(small, _scope_='mmpretrain'))
    teachers = dict(plain_teacher=MODELS.build(pair))
    new = _teacher_cfg(cfg, student_conv='merged', **block)
    models['new_conv'] = _stage(new, new_conv_policy)
    models['new_conv'].load_teacher(teachers['plain_teacher'].state_dict())
    return models, teachers


def build_scalers(teacher: Mapping[str, Any]) -> Models:
    """Build a supernet as teacher, as student, and without its branches.

    Args:
        teacher: The config of the supernet at scaler 1, with its scope.

    Returns:
        ``scaler_1``, ``scaler_0`` and ``ungrafted``; of each all parameters
        train which get a gradient.
    """
    names = ('scaler_1', 'scaler_0', 'ungrafted')
    models = {name: MODELS.build(copy.deepcopy(teacher)) for name in names}
    set_scaler(models['scaler_0'], 0.0)
    ungraft(models['ungrafted'])
    return models


def _stage(architecture: dict, policy: Mapping[str, Any]) -> BaseModel:
    """Build a student stage; a policy is ``reuse`` and ``norm_stats``."""
    return _distill(architecture, type='SupernetDistill', **policy)


def _distill(architecture: dict, **algorithm: Any) -> BaseModel:
    """Build an algorithm of MMRazor's kind, with soft labels."""
    return MODELS.build(
        dict(
            _scope_='mmrazor',
            architecture=copy.deepcopy(architecture),
            distiller=_soft_labels(),
            **algorithm,
        )
    )


def _soft_labels() -> dict[str, Any]:
    """Return soft labels on the logits, in MMRazor's terms."""
    recorder = dict(type='ModuleOutputs', source='head.fc')
    return dict(
        type='ConfigurableDistiller',
        student_recorders=dict(logits=dict(recorder)),
        teacher_recorders=dict(logits=dict(recorder)),
        distill_losses=dict(
            loss_kl=dict(type='KLDivergence', tau=4.0, reduction='batchmean')
        ),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(recorder='logits', from_student=True),
                preds_T=dict(recorder='logits', from_student=False),
            )
        ),
    )


def _teacher_cfg(cfg: Config, **backbone: Any) -> dict[str, Any]:
    """Return the supernet at scaler 1, as the teacher's stage builds it."""
    network = dict(supernet_cfg(cfg), _scope_='mmpretrain')
    for key in ('lora', 'student_conv'):
        network['backbone'].pop(key, None)
    network['backbone'].update(backbone, scaler=1.0)
    return network
