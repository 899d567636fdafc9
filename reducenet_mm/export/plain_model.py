# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The network that a student is, without branches, as a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from reducenet_mm.engine.toolbox import CLASSIFIERS, scope_of
from reducenet_mm.models.backbones.reduce_blocks import BLOCKS, check_block

from .plain_data import plain, unscoped
from .student_backbone import StudentResNet, StudentResNet_CIFAR

GRAFTED = 'GraftedBackbone'
SUPERNETS = ('ReduceNet', GRAFTED)
"""Types of the backbones which have a student to export."""

BACKBONES = (StudentResNet.__name__, StudentResNet_CIFAR.__name__)
"""Types of plain backbones which are shipped beside the config."""

FUNCTION_KEYS = (
    'depth',
    'base_channels',
    'in_channels',
    'out_indices',
    'norm_cfg',
    'act_cfg',
)
"""Backbone settings that decide the student's function; others only train."""

HOST_TRAINING_KEYS = (
    'init_cfg',
    'pretrained',
    'frozen_stages',
    'norm_eval',
    'with_cp',
)
"""Settings of stock backbones that only train, not compute."""


def supernet_cfg(cfg: Config) -> dict[str, Any]:
    """Return the network with branches that ``cfg`` trains, as a copy.

    Args:
        cfg: A teacher's config (``model`` is the network itself) or a
            distillation config (``model.architecture`` is).

    Returns:
        The network's dict, with its ``data_preprocessor`` inside.

    Raises:
        ValueError: If its backbone has no branches.
    """
    scope = scope_of(cfg)
    outer = plain(cfg.get('model') or {}, scope)
    model = outer.get('architecture', outer)
    for holder in (outer, cfg):
        preprocessor = holder.get('data_preprocessor')
        if preprocessor is not None:
            model.setdefault('data_preprocessor', plain(preprocessor, scope))
    backbone = model.get('backbone', {})
    if unscoped(backbone.get('type')) not in SUPERNETS:
        raise ValueError(
            'only a network with a ReduceNet backbone, or a GraftedBackbone, '
            'has a student to export, got '
            f'model.backbone.type={backbone.get("type")!r}. Give the config '
            'with which the checkpoint was trained.'
        )
    if backbone.get('deploy'):
        raise ValueError(
            'model.backbone.deploy=True: the config builds the student '
            'already, without branches. Give the config with which the '
            'checkpoint was trained.'
        )
    return model


def plain_model_cfg(cfg: Config, folded: bool = False) -> dict[str, Any]:
    """Return the student's network: the same head on a plain backbone.

    A ``GraftedBackbone`` becomes its host. ``ReduceNet`` of depths 18 and 34
    becomes MMPretrain's own ``ResNet`` where that is the same function, all
    others a class of ``student_backbone.py``.

    Args:
        cfg: The config with which the checkpoint was trained.
        folded: Whether the backbone is without norms, which have been
            folded into the convolutions before them.

    Raises:
        ValueError: As :func:`supernet_cfg`, or if the block is unknown, its
            norms cannot be folded, or a ReduceNet is in no classifier.
    """
    model = supernet_cfg(cfg)
    backbone = model['backbone']
    if unscoped(backbone['type']) == GRAFTED:
        model['backbone'] = _host_cfg(backbone, folded)
    elif scope_of(cfg) != CLASSIFIERS:
        raise ValueError(
            f'model.backbone.type={backbone["type"]!r} in a network of '
            f'{scope_of(cfg)!r}: what would be shipped is built by '
            "MMPretrain. Graft the toolbox's own ResNet (GraftedBackbone)."
        )
    else:
        model['backbone'] = _resnet_cfg(backbone, folded)
    for key in ('_scope_', 'init_cfg', 'pretrained'):
        model.pop(key, None)
    if scope_of(cfg) == CLASSIFIERS:  # no detector is built without its own
        model.pop('train_cfg', None)
    return model


def _host_cfg(old: Mapping[str, Any], folded: bool) -> dict[str, Any]:
    if folded:
        raise ValueError(
            '--fold-bn is for a ReduceNet, got model.backbone.type='
            f'{GRAFTED!r}. Export without folding: --onnx and --int8 fold by '
            'themselves.'
        )
    host = {
        key: value
        for key, value in old['backbone'].items()
        if key not in HOST_TRAINING_KEYS
    }
    if '_scope_' in old:  # in which its own is looked up, too
        host.setdefault('_scope_', old['_scope_'])
    return host


def _resnet_cfg(old: Mapping[str, Any], folded: bool) -> dict[str, Any]:
    new = {key: old[key] for key in FUNCTION_KEYS if key in old}
    block = old.get('block', 'postsum')
    check_block(block)
    if not BLOCKS[block].out_act:
        new['out_act'] = False
    is_relu = unscoped((new.get('act_cfg') or {}).get('type', 'ReLU'))
    stock = BLOCKS[block].out_act and is_relu == 'ReLU' and not folded
    if folded:
        _check_foldable(new.get('norm_cfg') or {})
        new['folded'] = True
    if new['depth'] in StudentResNet_CIFAR.arch_settings:
        name = StudentResNet_CIFAR.__name__
    elif stock:
        name = 'ResNet'
        new.pop('act_cfg', None)
        width = new.get('base_channels') or StudentResNet.default_width
        new.update(base_channels=width, stem_channels=width)
    else:
        name = StudentResNet.__name__
    return dict(type=name, **_without_none(new))


def _check_foldable(norm_cfg: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` unless norms are affine in eval mode."""
    known = unscoped(norm_cfg.get('type', 'BN')) in ('BN', 'BN2d', 'SyncBN')
    needed = ('track_running_stats', 'affine')
    if not known or not all(norm_cfg.get(key, True) for key in needed):
        raise ValueError(
            'only batch norms with running statistics and a scale can be '
            'folded into the convolutions before them, got '
            f'model.backbone.norm_cfg={dict(norm_cfg)}. Export without '
            'folding.'
        )


def _without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: val for key, val in settings.items() if val is not None}
