# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Build once what optimizes, and say which config key is to blame."""

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
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    DefaultScope,
)
from torch import nn

from ..toolbox import default_scope
from .build import with_key
from .entries import Entry, optimizing, settings
from .schedule import scheduler_classes

_ERRORS = (AssertionError, KeyError, RuntimeError, TypeError, ValueError)
"""What a wrong value makes constructors raise."""


def check_optimizing(cfg: Config, model: nn.Module) -> None:
    """Build optimizer and schedulers as the Runner would, for ``model``.

    Passed over are several optimizers, wrappers of other packages, and
    optimizers that need the other processes.

    Args:
        cfg: The full config; it is not changed.
        model: What ``cfg.model`` builds; it is not changed.

    Raises:
        ValueError: If something cannot be built.
        TypeError: If that is because of a type.
    """
    found = list(optimizing(cfg))
    if not found or not _can_be_built(found):
        return
    with DefaultScope.overwrite_default_scope(default_scope(cfg)):
        try:
            wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        except _ERRORS as error:
            raise with_key(error, 'optim_wrapper') from error
        for key, entry, _ in scheduler_classes(cfg):
            default = dict(optimizer=wrapper, epoch_length=1)
            length = _length(cfg, entry.get('by_epoch', True))
            if length is not None:
                default['end'] = length
            try:
                PARAM_SCHEDULERS.build(
                    copy.deepcopy(entry), default_args=default
                )
            except _ERRORS as error:
                raise with_key(error, key) from error


def _can_be_built(found: list[Entry]) -> bool:
    """Whether building it here is what the Runner will do."""
    targets = {entry.root.name: entry.target for entry in found}
    optimizer = targets.get(OPTIMIZERS.name)
    wrapper = targets.get(OPTIM_WRAPPERS.name)
    on_gpu = wrapper is AmpOptimWrapper and get_device() != 'cpu'
    if wrapper is not OptimWrapper and not on_gpu:
        return False
    return inspect.isclass(optimizer) and not issubclass(
        optimizer, ZeroRedundancyOptimizer
    )


def _length(cfg: Config, by_epoch: bool) -> int | None:
    """Return when a scheduler ends that does not say so, if it is known."""
    loop = settings(cfg.get('train_cfg'))
    return loop.get('max_epochs' if by_epoch else 'max_iters')
