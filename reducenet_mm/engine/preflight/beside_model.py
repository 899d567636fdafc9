# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Check what stands beside ``model``: types, keys, lengths, seeds.

MMEngine builds these one after the other, when the work dir is there, and
says of some no more than that ``None`` cannot be called.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dataset import (
    ClassBalancedDataset,
    ConcatDataset,
    DefaultSampler,
    InfiniteSampler,
    RepeatDataset,
)
from mmengine.registry import (
    DATA_SAMPLERS,
    LOOPS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    DefaultScope,
)
from mmengine.runner import Runner
from mmpretrain.datasets import KFoldDataset, RepeatAugSampler
from torch.utils.data import DataLoader

from reducenet_mm.datasets import SeedSample
from reducenet_mm.plain_numbers import checked_int, is_number

from ..optimizers.trainable import (
    ROLES_KEY,
    TrainableOptimWrapperConstructor,
    check_paramwise_keys,
)
from ..toolbox import TOOLBOXES, default_scope
from .build import with_key
from .entries import Entry, datasets, entries, settings, steps
from .model_keys import (
    Node,
    accepted_keys,
    check_keys,
    resolve,
    unknown_type,
)

_OF_PLAIN_INDICES = (DefaultSampler, InfiniteSampler, RepeatAugSampler)
_COMPUTES_INDICES = (
    ClassBalancedDataset,
    ConcatDataset,
    KFoldDataset,
    RepeatDataset,
)

_TAKEN_BY_RUNNER = {
    LOOPS.name: {'by_epoch'},
    OPTIM_WRAPPERS.name: {'constructor', 'paramwise_cfg'},
    PARAM_SCHEDULERS.name: {'convert_to_iter_based', 'epoch_length'},
}
"""Root registry -> keys that are used before the constructor's call."""

_TAKEN_OF_LOADERS = {'disable_subprocess_warning', 'num_batch_per_epoch'}


def check_beside_model(cfg: Config, loaders: Sequence[str]) -> None:
    """Check dataloaders, their loops and metrics, and what optimizes.

    Args:
        cfg: The full config; it is not changed.
        loaders: Top-level keys of the dataloaders that will be used. What
            optimizes is checked beside ``train_dataloader`` only.

    Raises:
        ValueError: If a ``type`` is not registered, a key is not known, a
            transform cannot be built, a batch or a training has no length,
            ``SeedSample`` will not be told any seeds, or ``paramwise_cfg``
            would have no effect.
        TypeError: If a setting of a transform has the wrong type.
    """
    for entry in entries(cfg, loaders):
        kind = entry.value.get('type')
        if isinstance(kind, str) and entry.target is None:
            raise ValueError(
                unknown_type(entry.key, kind, entry.scope, entry.root)
            )
        _check_keys(cfg, entry)
        if entry.root is TRANSFORMS and _is_known(entry.target):
            _check_built(entry)
    _check_arguments(cfg, 'randomness', Runner.set_randomness)
    _check_log_level(cfg.get('log_level', 'INFO'))
    for field in loaders:
        _check_arguments(cfg, field, DataLoader, _TAKEN_OF_LOADERS)
        loader = settings(cfg.get(field))
        if loader.get('batch_size') is not None:
            checked_int(f'{field}.batch_size', loader['batch_size'], 1)
        _check_seeds(cfg, field)
    if 'train_dataloader' in loaders:
        _check_lengths(cfg)
        _check_paramwise(cfg)


def _check_keys(cfg: Config, entry: Entry) -> None:
    """Refuse keys that a constructor does not take.

    What a constructor of one's own for optimizers reads is not known.
    """
    target = entry.target
    known = None if target is None else accepted_keys(target)
    if known is None:
        return
    if entry.root in (OPTIMIZERS, OPTIM_WRAPPERS):
        constructor, _ = _constructor(cfg)
        if not _is_known(constructor):
            return
    taken = _TAKEN_BY_RUNNER.get(entry.root.name, set())
    if 'type' in entry.value:
        taken = taken - {'by_epoch'}
    check_keys(entry.node, known | taken)


def _check_built(entry: Entry) -> None:
    """Build it, of which the Runner builds one more."""
    with DefaultScope.overwrite_default_scope(entry.scope):
        try:
            entry.root.build(copy.deepcopy(dict(entry.value)))
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise with_key(error, entry.key) from error


def _check_arguments(
    cfg: Config,
    key: str,
    target: Any,
    taken: set[str] = frozenset(),  # type: ignore[assignment]
) -> None:
    """Refuse keys that ``target``, which needs no ``type``, does not take."""
    known = accepted_keys(target)
    if known is not None:
        node = Node(key, settings(cfg.get(key)), default_scope(cfg), target)
        check_keys(node, (known | taken) - {'self'})


def _check_log_level(level: Any) -> None:
    known = isinstance(level, str) and logging.getLevelName(level)
    if not isinstance(known or level, int):
        raise ValueError(
            f'log_level={level!r} is no level of logging. Set it to one of '
            'CRITICAL, ERROR, WARNING, INFO, DEBUG.'
        )


def _check_lengths(cfg: Config) -> None:
    """Refuse what MMEngine cannot count up to; it takes floats, as 1e9."""
    loop = settings(cfg.get('train_cfg'))
    for name in ('max_epochs', 'max_iters'):
        value = loop.get(name)
        if value is None:
            continue
        whole = isinstance(value, float) and value.is_integer()
        checked_int(f'train_cfg.{name}', int(value) if whole else value, 1)
    value = loop.get('val_interval')
    if is_number(value) and value == 0 and cfg.get('val_cfg') is not None:
        raise ValueError(
            'train_cfg.val_interval=0: validation cannot come every 0 '
            'epochs. Set it to 1 or more, or val_cfg, val_dataloader and '
            'val_evaluator to None for a training without validation.'
        )


def _check_paramwise(cfg: Config) -> None:
    """Refuse learning rates by role that no constructor would read.

    One from neither here nor a toolbox may read keys of its own.
    """
    wrapper = settings(cfg.get('optim_wrapper'))
    paramwise = settings(wrapper.get('paramwise_cfg'))
    kind, name = _constructor(cfg)
    if kind is TrainableOptimWrapperConstructor:
        check_paramwise_keys(paramwise)
    elif 'roles' in paramwise and _is_known(kind):
        raise ValueError(
            f'{ROLES_KEY}={paramwise["roles"]!r} has no effect with '
            f'optim_wrapper.constructor={name!r}. Set '
            "optim_wrapper.constructor='TrainableOptimWrapperConstructor', "
            'or leave roles out.'
        )


def _constructor(cfg: Config) -> tuple[Any, Any]:
    """Return what will build the optimizer wrapper, and its name."""
    wrapper = settings(cfg.get('optim_wrapper'))
    name = wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
    scope = wrapper.get('_scope_', default_scope(cfg))
    return resolve(name, scope, (OPTIM_WRAPPER_CONSTRUCTORS,)), name


def _is_known(kind: Any) -> bool:
    """Whether a class is of a toolbox, or from here."""
    package = getattr(kind, '__module__', '').partition('.')[0]
    return package in (*TOOLBOXES, __name__.partition('.')[0])


def _check_seeds(cfg: Config, field: str) -> None:
    """Refuse ``SeedSample`` where no seeds reach it."""
    sampler = settings(settings(cfg.get(field)).get('sampler')).get('type')
    kind = resolve(sampler, default_scope(cfg), (DATA_SAMPLERS,))
    wrapper: Entry | None = None
    for dataset in datasets(cfg, field):
        if dataset.target in _COMPUTES_INDICES:
            wrapper = wrapper or dataset
        for step in steps(dataset):
            if step.target is SeedSample and (
                kind in _OF_PLAIN_INDICES or wrapper is not None
            ):
                raise ValueError(_no_seeds(field, step, sampler, wrapper))


def _no_seeds(
    field: str, step: Entry, sampler: Any, wrapper: Entry | None
) -> str:
    """Say why ``step``, a ``SeedSample``, is told no seeds, and what to do."""
    reason = f'{field}.sampler.type={sampler!r} does not hand them on'
    advice = f"Set {field}.sampler.type='SeededSampler', or leave"
    if wrapper is not None:
        kind = wrapper.value['type']
        reason = f'{wrapper.key}.type={kind!r} computes indices of its own'
        advice = 'Leave the wrapper out, or else'
    if field != 'train_dataloader':
        advice = 'Leave'
    return (
        f'{step.key}.type={step.value["type"]!r} needs to know seed and '
        f'epoch, and {reason}. {advice} SeedSample out, which only what '
        'trains reproducibly needs.'
    )
