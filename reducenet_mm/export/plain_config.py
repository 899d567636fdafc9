# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The plain config of a student, out of a teacher's or distillation config.

Nothing of what is written here names a branch or an algorithm.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmpretrain.registry import DATASETS, MODELS, TRANSFORMS

from reducenet_mm.models.backbones.reduce_blocks import BLOCKS, check_block

FUNCTION_KEYS = (
    'depth',
    'base_channels',
    'in_channels',
    'out_indices',
    'norm_cfg',
    'act_cfg',
)
"""Backbone settings that decide the student's function; others only train."""

EVALUATION_KEYS = (
    'val_dataloader',
    'val_cfg',
    'val_evaluator',
    'test_dataloader',
    'test_cfg',
    'test_evaluator',
)


def supernet_cfg(cfg: Config) -> dict[str, Any]:
    """Return the classifier with branches that ``cfg`` trains, as a copy.

    Args:
        cfg: A teacher's config (``model`` is the classifier itself) or a
            distillation config (``model.architecture`` is).

    Returns:
        The classifier's dict, with its ``data_preprocessor`` inside.

    Raises:
        ValueError: If its backbone is no ``ReduceNet``.
    """
    outer = _plain(cfg.get('model') or {})
    model = outer.get('architecture', outer)
    for holder in (outer, cfg):
        preprocessor = holder.get('data_preprocessor')
        if preprocessor is not None:
            model.setdefault('data_preprocessor', _plain(preprocessor))
    backbone = model.get('backbone', {}).get('type')
    if _unscoped(backbone) != 'ReduceNet':
        raise ValueError(
            'only a network with a ReduceNet backbone has a student to '
            f'export, got model.backbone.type={backbone!r}. Give the config '
            'with which the checkpoint was trained.'
        )
    return model


def plain_model_cfg(cfg: Config) -> dict[str, Any]:
    """Return the student's classifier: the same head on a plain backbone.

    Depths 18 and 34 become MMPretrain's own ``ResNet`` where that is the
    same function, all others ``PlainResNet``.

    Raises:
        ValueError: As :func:`supernet_cfg`, or if the block is unknown.
    """
    model = supernet_cfg(cfg)
    old = model['backbone']
    new = {key: old[key] for key in FUNCTION_KEYS if key in old}
    block = old.get('block', 'postsum')
    check_block(block)
    if not BLOCKS[block].out_act:
        new['out_act'] = False
    is_relu = _unscoped((new.get('act_cfg') or {}).get('type', 'ReLU'))
    stock = BLOCKS[block].out_act and is_relu == 'ReLU'
    if new['depth'] in (18, 34) and stock:
        new.pop('act_cfg', None)
        width = new.get('base_channels') or 64
        new.update(base_channels=width, stem_channels=width)
        backbone = dict(type='ResNet', **_without_none(new))
    else:
        backbone = dict(type='PlainResNet', **_without_none(new))
    model['backbone'] = backbone
    model.pop('_scope_', None)
    model.pop('init_cfg', None)
    model.pop('train_cfg', None)
    return model


def plain_config(cfg: Config) -> Config:
    """Return a complete config that tests the student with any tool.

    Args:
        cfg: The config with which the checkpoint was trained.

    Returns:
        Model, data preprocessor, evaluation data and metrics; our package
        is imported by it only if something in it is ours.
    """
    model = plain_model_cfg(cfg)
    preprocessor = model.pop('data_preprocessor', None)
    if preprocessor is not None:
        preprocessor.pop('_scope_', None)
        preprocessor['type'] = _unscoped(
            preprocessor.get('type', 'ClsDataPreprocessor')
        )
    content: dict[str, Any] = dict(default_scope='mmpretrain')
    evaluation = {
        key: _plain(cfg[key])
        for key in EVALUATION_KEYS
        if cfg.get(key) is not None
    }
    if _uses_this_package(dict(model=model, **evaluation)):
        content['custom_imports'] = dict(
            imports=['reducenet_mm'], allow_failed_imports=False
        )
    content['model'] = model
    if preprocessor is not None:
        content['data_preprocessor'] = preprocessor
    content.update(evaluation)
    return Config(content)


def _plain(value: Any) -> Any:
    """Return a deep copy of plain dicts, lists and tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return copy.deepcopy(value)


def _without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: val for key, val in settings.items() if val is not None}


def _unscoped(name: str | None) -> str:
    return (name or '').rpartition('.')[2]


def _uses_this_package(value: Any) -> bool:
    for name in _types(value):
        for registry in (MODELS, DATASETS, TRANSFORMS):
            found = registry.get(name)
            module = getattr(found, '__module__', '')
            if module.split('.')[0] == 'reducenet_mm':
                return True
    return False


def _types(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get('type'), str):
            yield value['type']
        for item in value.values():
            yield from _types(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _types(item)
