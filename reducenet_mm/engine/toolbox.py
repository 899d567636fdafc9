# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Whose network it is that a config trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from reducenet_mm.models.architecture import add_scope

CLASSIFIERS = 'mmpretrain'
"""The scope whose networks can be measured, folded and written as ONNX."""

TOOLBOXES = (
    'mmcv',
    'mmdet',
    'mmengine',
    'mmpretrain',
    'mmseg',
    'torch',
    'torchvision',
)
"""Packages whose parts are known by name wherever a plain config is read."""


def is_known(kind: Any) -> bool:
    """Whether a class is of a toolbox, or from here."""
    kind = getattr(kind, 'func', kind)  # of a partial, as torchvision's are
    package = getattr(kind, '__module__', '').partition('.')[0]
    return package in (*TOOLBOXES, __name__.partition('.')[0])


def default_scope(cfg: Config) -> str:
    """Return the scope in which the Runner looks up what a config names."""
    return cfg.get('default_scope') or 'mmengine'


def scope_of(cfg: Config) -> str:
    """Return the scope of the network that ``cfg`` trains.

    That is its own, or else the config's: MMRazor's is the algorithm's alone,
    whose network may have been found without saying whose it is.
    New-style configs may have neither, but a class, whose toolbox it is.
    """
    model = cfg.get('model') or {}
    inner = model.get('architecture')
    model = inner if isinstance(inner, Mapping) else model
    kind = model.get('type')
    if isinstance(kind, str) and kind.partition('.')[0] in TOOLBOXES:
        return kind.partition('.')[0]
    model = add_scope(model, cfg.get('default_scope') or CLASSIFIERS)
    scope = model.get('_scope_') or cfg.get('default_scope')
    module = getattr(kind, '__module__', '').partition('.')[0]
    return scope or (module if module in TOOLBOXES else CLASSIFIERS)
