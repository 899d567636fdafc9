# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Check what stands beside ``model``: types, lengths, and where seeds go.

MMEngine builds these one after the other, when the work dir is there, and
says of some no more than that ``None`` cannot be called. Passed over are
what has been built already, transforms inside others, and what is built for
several optimizers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

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
    DATASETS,
    EVALUATOR,
    LOOPS,
    METRICS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    Registry,
)
from mmpretrain.datasets import KFoldDataset, RepeatAugSampler

from reducenet_mm.datasets import SeedSample
from reducenet_mm.plain_numbers import checked_int, is_number

from ..optimizers.trainable import (
    ROLES_KEY,
    TrainableOptimWrapperConstructor,
    check_paramwise_keys,
)
from ..toolbox import TOOLBOXES, default_scope
from .model_keys import resolve, unknown_type

_OF_PLAIN_INDICES = (DefaultSampler, InfiniteSampler, RepeatAugSampler)
_COMPUTES_INDICES = (
    ClassBalancedDataset,
    ConcatDataset,
    KFoldDataset,
    RepeatDataset,
)


class _Entry(NamedTuple):
    """A dict outside ``model`` that something is built from.

    Attributes:
        key: Where it stands.
        value: The dict.
        root: Of the registry that knows its ``type``.
        scope: In force for it and what is inside.
    """

    key: str
    value: Mapping[str, Any]
    root: Registry
    scope: str

    @property
    def target(self) -> Any:
        """What its ``type`` means, ``None`` if nothing."""
        return resolve(self.value.get('type'), self.scope, (self.root,))


def check_beside_model(cfg: Config, loaders: Sequence[str]) -> None:
    """Check dataloaders, their loops and metrics, and what optimizes.

    Args:
        cfg: The full config; it is not changed.
        loaders: Top-level keys of the dataloaders that will be used. What
            optimizes is checked beside ``train_dataloader`` only.

    Raises:
        ValueError: If a ``type`` is not registered, a batch or a training
            has no length, ``SeedSample`` will not be told any seeds, or
            ``paramwise_cfg`` would have no effect.
    """
    for entry in _entries(cfg, loaders):
        kind = entry.value.get('type')
        if isinstance(kind, str) and entry.target is None:
            raise ValueError(
                unknown_type(entry.key, kind, entry.scope, entry.root)
            )
    for field in loaders:
        loader = _settings(cfg.get(field))
        if loader.get('batch_size') is not None:
            checked_int(f'{field}.batch_size', loader['batch_size'], 1)
        _check_seeds(cfg, field)
    if 'train_dataloader' in loaders:
        _check_lengths(cfg)
        _check_paramwise(cfg)


def _entries(cfg: Config, loaders: Sequence[str]) -> Iterator[_Entry]:
    scope = default_scope(cfg)
    for field in loaders:
        for dataset in _datasets(cfg, field):
            yield dataset
            yield from _steps(dataset)
        loader = _settings(cfg.get(field))
        for name in ('sampler', 'batch_sampler'):
            key = f'{field}.{name}'
            yield from _each(loader.get(name), key, DATA_SAMPLERS, scope)
        key = field.replace('_dataloader', '_evaluator')
        if 'metrics' in _settings(cfg.get(key)):
            for evaluator in _each(cfg[key], key, EVALUATOR, scope):
                yield evaluator
                yield from _inside(evaluator, 'metrics', METRICS)
        else:
            yield from _each(cfg.get(key), key, METRICS, scope)
        key = field.replace('_dataloader', '_cfg')
        yield from _each(cfg.get(key), key, LOOPS, scope)
    if 'train_dataloader' in loaders:
        yield from _optimizing(cfg, scope)


def _optimizing(cfg: Config, scope: str) -> Iterator[_Entry]:
    key = 'optim_wrapper'
    for wrapper in _each(cfg.get(key), key, OPTIM_WRAPPERS, scope):
        yield wrapper
        yield from _inside(wrapper, 'optimizer', OPTIMIZERS)
        if 'constructor' in wrapper.value:
            constructor = dict(type=wrapper.value['constructor'])
            yield _Entry(
                f'{key}.constructor',
                constructor,
                OPTIM_WRAPPER_CONSTRUCTORS,
                wrapper.scope,
            )
    key = 'param_scheduler'
    yield from _each(cfg.get(key), key, PARAM_SCHEDULERS, scope)


def _datasets(cfg: Config, field: str) -> Iterator[_Entry]:
    """Yield the data sets of a loader, each before those that it wraps."""
    found = _settings(cfg.get(field)).get('dataset')
    key = f'{field}.dataset'
    yield from _wrapping(_each(found, key, DATASETS, default_scope(cfg)))


def _wrapping(datasets: Iterator[_Entry]) -> Iterator[_Entry]:
    for dataset in datasets:
        yield dataset
        for name in ('dataset', 'datasets'):
            yield from _wrapping(_inside(dataset, name, DATASETS))


def _steps(dataset: _Entry) -> Iterator[_Entry]:
    return _inside(dataset, 'pipeline', TRANSFORMS)


def _inside(entry: _Entry, name: str, root: Registry) -> Iterator[_Entry]:
    value = entry.value.get(name)
    return _each(value, f'{entry.key}.{name}', root, entry.scope)


def _each(
    value: Any, key: str, root: Registry, scope: str
) -> Iterator[_Entry]:
    """Yield a dict, or those in a list."""
    many = isinstance(value, (list, tuple))
    for index, one in enumerate(value if many else [value]):
        if isinstance(one, Mapping):
            where = f'{key}.{index}' if many else key
            yield _Entry(where, one, root, one.get('_scope_', scope))


def _settings(value: Any) -> Mapping[str, Any]:
    """Return a dict of settings, an empty one for what is built already."""
    return value if isinstance(value, Mapping) else {}


def _check_lengths(cfg: Config) -> None:
    """Refuse what MMEngine cannot count up to; it takes floats, as 1e9."""
    loop = _settings(cfg.get('train_cfg'))
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
    wrapper = _settings(cfg.get('optim_wrapper'))
    paramwise = _settings(wrapper.get('paramwise_cfg'))
    name = wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
    scope = wrapper.get('_scope_', default_scope(cfg))
    kind = resolve(name, scope, (OPTIM_WRAPPER_CONSTRUCTORS,))
    package = getattr(kind, '__module__', '').partition('.')[0]
    if kind is TrainableOptimWrapperConstructor:
        check_paramwise_keys(paramwise)
    elif 'roles' in paramwise and package in TOOLBOXES:
        raise ValueError(
            f'{ROLES_KEY}={paramwise["roles"]!r} has no effect with '
            f'optim_wrapper.constructor={name!r}. Set '
            "optim_wrapper.constructor='TrainableOptimWrapperConstructor', "
            'or leave roles out.'
        )


def _check_seeds(cfg: Config, field: str) -> None:
    """Refuse ``SeedSample`` where no seeds reach it."""
    sampler = _settings(_settings(cfg.get(field)).get('sampler')).get('type')
    kind = resolve(sampler, default_scope(cfg), (DATA_SAMPLERS,))
    wrapper: _Entry | None = None
    for dataset in _datasets(cfg, field):
        if dataset.target in _COMPUTES_INDICES:
            wrapper = wrapper or dataset
        for step in _steps(dataset):
            if step.target is SeedSample and (
                kind in _OF_PLAIN_INDICES or wrapper is not None
            ):
                raise ValueError(_no_seeds(field, step, sampler, wrapper))


def _no_seeds(
    field: str, step: _Entry, sampler: Any, wrapper: _Entry | None
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
