# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Check what optimizes: by its keys, then by building it once."""

from __future__ import annotations

import copy
import inspect

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import (
    AmpOptimWrapper,
    OptimWrapper,
    ZeroRedundancyOptimizer,
    build_optim_wrapper,
)
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    DefaultScope,
)
from mmengine.runner import Runner
from torch import nn

from ..optimizers.trainable import (
    ROLES_KEY,
    TrainableOptimWrapperConstructor,
    check_paramwise_keys,
)
from ..toolbox import default_scope, is_known
from .build import CONFIG_ERRORS, with_key
from .entries import (
    DEFAULT_CONSTRUCTOR,
    Entry,
    as_settings,
    constructor_of,
    iter_optimizing,
)
from .model_keys import unknown_type
from .run_settings import runner_class

_EPOCH = 1000
"""Iterations of an epoch where they are not known, and hardly matter."""


def check_constructor(cfg: Config) -> None:
    """Check what builds the optimizer wrapper, and ``paramwise_cfg``.

    A constructor from neither here nor a toolbox may read keys of its own.

    Args:
        cfg: The full config; it is not changed.

    Raises:
        ValueError: If it is not known, there is nothing to build, or
            learning rates by role are given that it would not read.
    """
    wrapper = as_settings(cfg.get('optim_wrapper'))
    name = wrapper.get('constructor', DEFAULT_CONSTRUCTOR)
    kind = constructor_of(cfg)
    if kind is None:
        scope = wrapper.get('_scope_', default_scope(cfg))
        key = 'optim_wrapper.constructor'
        root = OPTIM_WRAPPER_CONSTRUCTORS
        raise ValueError(unknown_type(key, name, scope, root))
    alone = 'constructor' not in wrapper and wrapper.get('optimizer') is None
    if alone and {'type', 'optimizer'} & set(wrapper):
        raise ValueError(
            f'optim_wrapper={dict(wrapper)} has no optimizer. Set '
            'optim_wrapper.optimizer.'
        )
    paramwise = as_settings(wrapper.get('paramwise_cfg'))
    if kind is TrainableOptimWrapperConstructor:
        check_paramwise_keys(paramwise)
    elif 'roles' in paramwise and is_known(kind):
        raise ValueError(
            f'{ROLES_KEY}={paramwise["roles"]!r} has no effect with '
            f'optim_wrapper.constructor={name!r}. Set '
            "optim_wrapper.constructor='TrainableOptimWrapperConstructor', "
            'or leave roles out.'
        )


def check_optimizing(cfg: Config, model: nn.Module) -> None:
    """Build optimizer and schedulers as the Runner would, for ``model``.

    Passed over are several optimizers, wrappers and constructors of other
    packages, strategies, and optimizers that need the other processes.

    Args:
        cfg: The full config; it is not changed.
        model: What ``cfg.model`` builds; it is not changed.

    Raises:
        ValueError: If something cannot be built.
        TypeError: If that is because of a type.
    """
    found = list(iter_optimizing(cfg))
    if not _can_be_built(cfg, found):
        return
    with DefaultScope.overwrite_default_scope(default_scope(cfg)):
        try:
            wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        except CONFIG_ERRORS as error:
            raise with_key(error, 'optim_wrapper') from error
        for entry in found:
            if entry.root is PARAM_SCHEDULERS:
                _build_scheduler(cfg, entry, wrapper)


def _build_scheduler(cfg: Config, entry: Entry, wrapper: OptimWrapper) -> None:
    default = dict(optimizer=wrapper, epoch_length=_EPOCH)
    loop = as_settings(cfg.get('train_cfg'))
    by_epoch = entry.cfg.get('by_epoch', True)
    end = loop.get('max_epochs' if by_epoch else 'max_iters')
    if end is not None:  # of the other unit, the length is not known yet
        default['end'] = end
    try:
        PARAM_SCHEDULERS.build(copy.deepcopy(entry.cfg), default_args=default)
    except CONFIG_ERRORS as error:
        raise with_key(error, entry.key) from error


def _can_be_built(cfg: Config, found: list[Entry]) -> bool:
    """Whether building it here is what the Runner will do."""
    targets = {entry.root.name: entry.target for entry in found}
    optimizer = targets.get(OPTIMIZERS.name)
    wrapper = targets.get(OPTIM_WRAPPERS.name)
    on_gpu = wrapper is AmpOptimWrapper and get_device() != 'cpu'
    return (
        (wrapper is OptimWrapper or on_gpu)
        and inspect.isclass(optimizer)
        and not issubclass(optimizer, ZeroRedundancyOptimizer)
        and is_known(constructor_of(cfg))
        and issubclass(runner_class(cfg), Runner)
    )
