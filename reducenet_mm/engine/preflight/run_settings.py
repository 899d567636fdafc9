# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Check what a Runner is told of its run: length, seed, and how loud."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from reducenet_mm.plain_numbers import checked_int, is_number

from ..toolbox import default_scope
from .entries import as_settings
from .model_keys import Node, accepted_keys, check_keys, resolve


def runner_class(cfg: Config) -> Any:
    """Return the class of the Runner of a config; unknown ones are MMEngine's.

    Args:
        cfg: The full config.
    """
    kind = resolve(cfg.get('runner_type'), default_scope(cfg), (RUNNERS,))
    return kind or Runner


def check_length(cfg: Config) -> None:
    """Refuse what MMEngine cannot count up to; it takes floats, as 1e9.

    Args:
        cfg: The full config; it is not changed.

    Raises:
        ValueError: If a training has no length, or its validations.
    """
    loop = as_settings(cfg.get('train_cfg'))
    for name in ('max_epochs', 'max_iters'):
        value = loop.get(name)
        if value is None:
            continue
        whole = isinstance(value, float) and value.is_integer()
        checked_int(f'train_cfg.{name}', int(value) if whole else value, 1)
    value = loop.get('val_interval')
    if is_number(value) and value == 0 and cfg.get('val_cfg') is not None:
        raise ValueError(
            'train_cfg.val_interval=0: validation cannot come at intervals '
            'of 0. Set it to 1 or more, or val_cfg, val_dataloader and '
            'val_evaluator to None for a training without validation.'
        )


def check_scaling(cfg: Config) -> None:
    """Raise ``ValueError`` if a rate is to be scaled by no batch size.

    Args:
        cfg: The full config; it is not changed.
    """
    scaling = as_settings(cfg.get('auto_scale_lr'))
    if scaling.get('enable'):
        size = scaling.get('base_batch_size')
        checked_int('auto_scale_lr.base_batch_size', size, 1)


def check_run_settings(cfg: Config) -> None:
    """Check ``randomness`` and ``log_level``.

    Args:
        cfg: The full config; it is not changed.

    Raises:
        ValueError: If one has a key that is not known, lacks one, or a
            value that nothing can be done with.
    """
    _check_randomness(cfg)
    level = cfg.get('log_level', 'INFO')
    if isinstance(level, str):
        level = logging.getLevelName(level)  # a text again if it is none
    if not isinstance(level, int):
        raise ValueError(
            f'log_level={cfg.log_level!r} is no level of logging. Set it to '
            'one of CRITICAL, ERROR, WARNING, INFO, DEBUG.'
        )


def _check_randomness(cfg: Config) -> None:
    target: Any = getattr(runner_class(cfg), 'set_randomness', None)
    known = None if target is None else accepted_keys(target)
    if 'randomness' not in cfg or known is None:
        return
    node = Node('randomness', cfg.randomness, default_scope(cfg), target)
    check_keys(node, known - {'self'})
    if target is Runner.set_randomness and 'seed' not in cfg.randomness:
        raise ValueError(
            f'randomness={dict(cfg.randomness)} has no seed. Set '
            'randomness.seed, to None for one that is drawn.'
        )
