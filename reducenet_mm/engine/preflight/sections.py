# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Whether the top-level sections of a config are there, and are dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

_DICTS = (
    'auto_scale_lr',
    'data_preprocessor',
    'default_hooks',
    'env_cfg',
    'log_processor',
    'model',
    'optim_wrapper',
    'randomness',
    'test_cfg',
    'test_dataloader',
    'train_cfg',
    'train_dataloader',
    'val_cfg',
    'val_dataloader',
    'visualizer',
)
_MAYBE_LISTS = ('param_scheduler', 'test_evaluator', 'val_evaluator')
_LISTS = ('custom_hooks',)
_NEVER_NONE = ('env_cfg', 'randomness')
"""Sections whose default is another one."""


def check_sections(cfg: Config, sections: Sequence[str]) -> None:
    """Check the sections of a config, before anything reads them.

    Args:
        cfg: The full config.
        sections: Top-level keys that must be set.

    Raises:
        ValueError: If one of ``sections`` is not set, one is neither a dict
            nor built already, or ``load_from`` is no path.
    """
    missing = [name for name in sections if cfg.get(name) is None]
    if missing:
        raise ValueError(
            f'the config {cfg.filename} does not set {", ".join(missing)}. '
            'Give it those keys, or inherit them from a file in _base_.'
        )
    for name in (*_DICTS, *_MAYBE_LISTS, *_LISTS):
        if cfg.get(name) is not None:
            _check_kind(name, cfg[name])
        elif name in cfg and name in _NEVER_NONE:
            raise ValueError(
                f'{name}=None is not what MMEngine takes for its default. '
                'Leave it out, or make it a dict.'
            )
    path = cfg.get('load_from')
    if not isinstance(path, str | None):
        raise ValueError(
            f'load_from must be the path of a checkpoint, got {path!r}.'
        )


def check_together(cfg: Config) -> None:
    """Raise ``ValueError`` if validation or test is set in part.

    To be called when all is set as it will be for the Runner, which refuses
    it too, but when its work dir is made.
    """
    for split in ('val', 'test'):
        parts = ('dataloader', 'cfg', 'evaluator')
        names = [f'{split}_{part}' for part in parts]
        unset = [name for name in names if cfg.get(name) is None]
        if unset and unset != names:
            given = ', '.join(name for name in names if name not in unset)
            raise ValueError(
                f'{", ".join(unset)} is not set, but {given} is. Set all '
                f'three of {", ".join(names)}, or all to None.'
            )


def _check_kind(name: str, value: Any) -> None:
    wrong: tuple[type, ...] = (str, bytes, bool, int, float)
    what = 'a dict'
    if name in _LISTS:
        wrong, what = (*wrong, Mapping), 'a list of dicts'
    elif name in _MAYBE_LISTS:
        what = 'a dict or a list of dicts'
    else:
        wrong = (*wrong, list, tuple)
    if isinstance(value, wrong):
        raise ValueError(
            f'{name} must be {what}, got {value!r}. Set what is inside, as '
            f'{name}.KEY=VALUE.'
        )
