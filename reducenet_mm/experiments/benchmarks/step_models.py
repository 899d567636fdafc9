# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The models whose training steps are compared: ways to train a student."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

from reducenet_mm.export.plain_data import unscoped
from reducenet_mm.export.plain_model import (
    GRAFTED,
    plain_model_cfg,
    supernet_cfg,
)
from reducenet_mm.models.algorithms.inplace_settings import (
    check_inplace_architecture,
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

LORAS: dict[str, dict[str, Any]] = dict(
    weight_lora=dict(kind='weight'),
    half_rank_lora=dict(kind='weight', expansion=0.5),
    conv_lora=dict(kind='kxk_1x1', inner_norm=True),
)
"""Case -> its branch. An update of full rank, the default, has more
parameters than the weight itself; half of it is what the campaigns train."""

_TRAIN_ALL = dict(reuse=dict(inherit='all', freeze=[]), norm_stats='live')


def build_variants(
    cfg: Config,
    distiller: Mapping[str, Any],
    lora_policy: Mapping[str, Any],
    new_conv_policy: Mapping[str, Any],
) -> tuple[Models, Models]:
    """Build all models; fixed teachers of the same block are alike.

    Args:
        cfg: Its ``model`` is the supernet's classifier, or a student stage.
        distiller: MMRazor's, of every algorithm.
        lora_policy: ``reuse`` and ``norm_stats`` of a stage in which only
            ``lora`` trains.
        new_conv_policy: Those of one in which only the main convolution
            trains.

    Returns:
        Name -> model, and name -> teacher where it is not in the model.
        A ``sequential`` block has no ``lora``; what cannot be trained in
        place has no ``inplace``, and the log says why. A
        ``GraftedBackbone`` has what :func:`build_scalers` returns instead of
        ``plain_teacher`` and ``new_conv``.
    """
    teacher = _teacher_cfg(cfg)
    plain_cfg = dict(plain_model_cfg(cfg), _scope_='mmpretrain')
    models = dict(plain=MODELS.build(plain_cfg))
    models['mmrazor'] = _build_algorithm(
        'SingleTeacherDistill', plain_cfg, distiller, teacher=teacher
    )
    known = models['mmrazor'].teacher.state_dict()
    students: dict[str, tuple[Mapping[str, Any], dict[str, Any]]] = dict(
        supernet=(_TRAIN_ALL, {}), annealed=(_TRAIN_ALL, {})
    )
    if teacher['backbone'].get('block') != 'sequential':
        for name, settings in LORAS.items():
            students[name] = lora_policy, dict(lora=settings)
    for name, (policy, backbone) in students.items():
        models[name] = _build_student(cfg, backbone, distiller, policy)
        models[name].load_teacher(known)
    _anneal(models['annealed'])
    if _trains_in_place(models['supernet'].architecture):
        models['inplace'] = _build_algorithm(
            'InplaceDistill', teacher, distiller
        )
    if unscoped(teacher['backbone']['type']) == GRAFTED:
        return {**models, **build_scalers(teacher)}, {}
    pairs, teachers = _build_pairs(cfg, distiller, new_conv_policy)
    return {**models, **pairs}, teachers


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


def _build_pairs(
    cfg: Config, distiller: Mapping[str, Any], policy: Mapping[str, Any]
) -> tuple[Models, Models]:
    """Build what the block ``sequential`` alone has."""
    block = dict(block='sequential', zero_init_expand=False)
    pair = _teacher_cfg(cfg, **block)
    small = plain_model_cfg(Config(dict(model=pair)))
    plain = MODELS.build(dict(small, _scope_='mmpretrain'))
    teacher = MODELS.build(pair)
    new = _teacher_cfg(cfg, student_conv='merged', **block)
    student = _build_stage(new, distiller, policy)
    student.load_teacher(teacher.state_dict())
    models = dict(plain_teacher=plain, new_conv=student)
    return models, dict(plain_teacher=teacher)


def _anneal(model: BaseModel) -> None:
    """Stop the branches, or activations, of a student stage halfway."""
    for gate in ('expand', 'lambda_relu'):
        set_gates(student_gates(model.architecture, gate), HALFWAY)


def _trains_in_place(architecture: nn.Module) -> bool:
    try:
        check_inplace_architecture(architecture)
    except ValueError as reason:
        print_log(f'The case inplace is left out: {reason}', 'current')
        return False
    return True


def _build_student(
    cfg: Config,
    backbone: Mapping[str, Any],
    distiller: Mapping[str, Any],
    policy: Mapping[str, Any],
) -> BaseModel:
    """Build a student stage; without a norm in its lora where none can be."""
    try:
        student = _teacher_cfg(cfg, **backbone)
        return _build_stage(student, distiller, policy)
    except ValueError as reason:
        lora = dict(backbone.get('lora', {}))
        if not lora.pop('inner_norm', False):
            raise
        print_log(f'Timed without inner_norm: {reason}', 'current')
        student = _teacher_cfg(cfg, **dict(backbone, lora=lora))
        return _build_stage(student, distiller, policy)


def _build_stage(
    architecture: Mapping[str, Any],
    distiller: Mapping[str, Any],
    policy: Mapping[str, Any],
) -> BaseModel:
    """Build a student stage; a policy is ``reuse`` and ``norm_stats``."""
    return _build_algorithm(
        'SupernetDistill', architecture, distiller, **policy
    )


def _build_algorithm(
    kind: str,
    architecture: Mapping[str, Any],
    distiller: Mapping[str, Any],
    **more: Any,
) -> BaseModel:
    """Build an algorithm of MMRazor's, or of its kind."""
    settings = dict(architecture=architecture, distiller=distiller, **more)
    return MODELS.build(
        dict(_scope_='mmrazor', type=kind, **copy.deepcopy(settings))
    )


def _teacher_cfg(cfg: Config, **backbone: Any) -> dict[str, Any]:
    """Return the supernet at scaler 1, as the teacher's stage builds it."""
    network = dict(supernet_cfg(cfg), _scope_='mmpretrain')
    for key in ('lora', 'student_conv'):
        network['backbone'].pop(key, None)
    network['backbone'].update(backbone, scaler=1.0)
    return network
