# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Whether the top-level sections of a config are there, and are dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook

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
_OWN_HOOKS = (
    'checkpoint',
    'logger',
    'param_scheduler',
    'runtime_info',
    'sampler_seed',
    'timer',
)
"""Of `default_hooks`, those that MMEngine leaves out if they are None."""

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
    hooks = [(f'default_hooks.{k}', v) for k, v in _default_hooks(cfg)]
    hooks += [
        (f'custom_hooks.{i}', hook)
        for i, hook in enumerate(cfg.get('custom_hooks') or ())
    ]
    for key, hook in hooks:
        if not isinstance(hook, (Mapping, Hook)):
            raise ValueError(
                f'{key} must be a dict of settings with `type`, got {hook!r}.'
            )
    path = cfg.get('load_from')
    if not isinstance(path, str | None):
        raise ValueError(
            f'load_from must be the path of a checkpoint, got {path!r}.'
        )


def check_together(cfg: Config) -> None:
    """Raise ``ValueError`` if validation or test is set in part.

    Or training is, or its rate without it. To be called when all is set as it
    will be for the Runner, which refuses it too, but when its work dir is
    made.
    """
    for split, last in (
        ('train', 'optim_wrapper'),
        ('val', 'val_evaluator'),
        ('test', 'test_evaluator'),
    ):
        names = [f'{split}_dataloader', f'{split}_cfg', last]
        unset = [name for name in names if cfg.get(name) is None]
        if unset and unset != names:
            given = ', '.join(name for name in names if name not in unset)
            raise ValueError(
                f'{", ".join(unset)} is not set, but {given} is. Set all '
                f'three of {", ".join(names)}, or all to None.'
            )
    if cfg.get('param_scheduler') and cfg.get('optim_wrapper') is None:
        raise ValueError(
            'param_scheduler is set, but optim_wrapper is not. Set '
            'param_scheduler=None too.'
        )


def _default_hooks(cfg: Config) -> Iterator[tuple[str, Any]]:
    """Yield those that are not left out."""
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if hook is not None or name not in _OWN_HOOKS:
            yield name, hook


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
        raise ValueError(f'{name} must be {what}, got {value!r}.')
