# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Check what stands beside ``model``: types, keys, parts, and seeds.

MMEngine builds these one after the other, when the work dir is there, and
says of some no more than that ``None`` cannot be called.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
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
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    VISBACKENDS,
    DefaultScope,
)
from mmpretrain.datasets import KFoldDataset, RepeatAugSampler
from torch.utils.data import DataLoader

from reducenet_mm.datasets import SeedSample
from reducenet_mm.plain_numbers import checked_int

from ..toolbox import default_scope, is_known
from .build import CONFIG_ERRORS, with_key
from .entries import (
    Entry,
    as_settings,
    constructor_of,
    iter_datasets,
    iter_entries,
    iter_steps,
)
from .model_keys import (
    Node,
    accepted_keys,
    check_keys,
    no_such_type,
    resolve,
)
from .optimizing import check_constructor
from .run_settings import check_length, check_run_settings, check_scaling

_OF_PLAIN_INDICES = (DefaultSampler, InfiniteSampler, RepeatAugSampler)
_COMPUTES_INDICES = (
    ClassBalancedDataset,
    ConcatDataset,
    KFoldDataset,
    RepeatDataset,
)

_TAKEN_FIRST = {
    OPTIM_WRAPPERS.name: {'constructor', 'paramwise_cfg'},
    PARAM_SCHEDULERS.name: {'convert_to_iter_based', 'epoch_length'},
    VISBACKENDS.name: {'name'},
}
"""Root registry -> keys that are used before the constructor's call."""

_TAKEN_OF_LOADERS = {'disable_subprocess_warning', 'num_batch_per_epoch'}


def check_beside_model(cfg: Config, loaders: Sequence[str]) -> None:
    """Check dataloaders, their loops and metrics, what optimizes and logs.

    Args:
        cfg: The full config; it is not changed.
        loaders: Top-level keys of the dataloaders that will be used. What
            optimizes is checked beside ``train_dataloader`` only.

    Raises:
        ValueError: If a ``type`` is missing or not registered, a key is not
            known, a transform cannot be built, a batch or a training has no
            length, ``SeedSample`` will not be told any seeds, or
            ``paramwise_cfg`` would have no effect.
        TypeError: If a setting of a transform has the wrong type.
    """
    for entry in iter_entries(cfg, loaders):
        if entry.target is None:
            raise ValueError(
                no_such_type(entry.key, entry.cfg, entry.scope, entry.root)
            )
        _check_keys(cfg, entry)
        if entry.root is TRANSFORMS and is_known(entry.target):
            _check_built(entry)
    for field in loaders:
        _check_loader(cfg, field)
        _check_seeds(cfg, field)
    if 'train_dataloader' in loaders:
        check_constructor(cfg)
        check_length(cfg)
        check_scaling(cfg)
    if loaders:
        check_run_settings(cfg)


def _check_keys(cfg: Config, entry: Entry) -> None:
    """Refuse keys that a constructor does not take.

    What a constructor of one's own for optimizers reads is not known.
    """
    if entry.key == 'train_cfg' and {'type', 'by_epoch'} <= set(entry.cfg):
        raise ValueError(
            f'train_cfg has both type={entry.cfg["type"]!r} and by_epoch='
            f'{entry.cfg["by_epoch"]}, and MMEngine takes one of them. Leave '
            'by_epoch out.'
        )
    assert entry.target is not None
    known = accepted_keys(entry.target)
    own = entry.root in (OPTIMIZERS, OPTIM_WRAPPERS) and not is_known(
        constructor_of(cfg)
    )
    if known is None or own:
        return
    if entry.key == 'train_cfg':
        known = known | {'by_epoch'}
    check_keys(entry, known | _TAKEN_FIRST.get(entry.root.name, set()))


def _check_built(entry: Entry) -> None:
    """Build it, of which the Runner builds one more."""
    with DefaultScope.overwrite_default_scope(entry.scope):
        try:
            entry.root.build(copy.deepcopy(dict(entry.cfg)))
        except CONFIG_ERRORS as error:
            raise with_key(error, entry.key) from error


def _check_loader(cfg: Config, field: str) -> None:
    """Refuse a dataloader without its parts, or with others."""
    loader = cfg.get(field)
    if not isinstance(loader, Mapping):
        return
    for name in ('dataset', 'sampler'):
        if name not in loader:
            raise ValueError(f'{field} has no {name!r}. Set {field}.{name}.')
    known = (accepted_keys(DataLoader) or set()) | _TAKEN_OF_LOADERS
    check_keys(Node(field, loader, default_scope(cfg), DataLoader), known)
    if loader.get('batch_size') is not None:
        checked_int(f'{field}.batch_size', loader['batch_size'], 1)


def _check_seeds(cfg: Config, field: str) -> None:
    """Refuse ``SeedSample`` where no seeds reach it."""
    loader = as_settings(cfg.get(field))
    sampler = as_settings(loader.get('sampler')).get('type')
    kind = resolve(sampler, default_scope(cfg), (DATA_SAMPLERS,))
    wrapper: Entry | None = None
    for dataset in iter_datasets(cfg, field):
        if dataset.target in _COMPUTES_INDICES:
            wrapper = wrapper or dataset
        for step in iter_steps(dataset):
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
        kind = wrapper.cfg['type']
        reason = f'{wrapper.key}.type={kind!r} computes indices of its own'
        advice = 'Leave the wrapper out, or else'
    if field != 'train_dataloader':
        advice = 'Leave'
    return (
        f'{step.key}.type={step.cfg["type"]!r} needs to know seed and '
        f'epoch, and {reason}. {advice} SeedSample out, which only what '
        'trains reproducibly needs.'
    )
