# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Check what stands beside ``model``: types, lengths, and where seeds go.

MMEngine builds these one after the other, when the work dir is there, and
says of some no more than that ``None`` cannot be called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    LOOPS,
    METRICS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    Registry,
)

from reducenet_mm.datasets import SeededSampler, SeedSample
from reducenet_mm.plain_numbers import checked_int, is_number

from .model_keys import resolve, unknown_type

_LENGTHS = ('max_epochs', 'max_iters', 'val_interval')


class _Entry(NamedTuple):
    """A dict outside ``model`` that something is built from.

    Attributes:
        key: Where it stands.
        value: The dict.
        root: Of the registry that knows its ``type``.
    """

    key: str
    value: Mapping[str, Any]
    root: Registry


def check_beside_model(cfg: Config, loaders: Sequence[str]) -> None:
    """Check dataloaders, their loops and metrics, and what optimizes.

    Args:
        cfg: The full config; it is not changed.
        loaders: Top-level keys of the dataloaders that will be used. What
            optimizes is checked beside ``train_dataloader`` only.

    Raises:
        ValueError: If a ``type`` is not registered, a batch or a training
            has no length, or ``SeedSample`` will not be told any seeds.
    """
    scope = cfg.get('default_scope')
    for key, value, root in _entries(cfg, loaders):
        kind = value.get('type')
        within = value.get('_scope_', scope)
        if isinstance(kind, str) and resolve(kind, within, (root,)) is None:
            raise ValueError(unknown_type(key, kind, within, root))
    for field in loaders:
        size = (cfg.get(field) or {}).get('batch_size')
        if size is not None:
            checked_int(f'{field}.batch_size', size, 1)
        _check_lengths(cfg, _loop_of(field))
        _check_seeds(cfg, field)


def _entries(cfg: Config, loaders: Sequence[str]) -> Iterator[_Entry]:
    for field in loaders:
        loader = cfg.get(field) or {}
        for entry in _datasets(loader.get('dataset'), f'{field}.dataset'):
            yield entry
            yield from _steps(entry)
        for name in ('sampler', 'batch_sampler'):
            key = f'{field}.{name}'
            yield from _each(loader.get(name), key, DATA_SAMPLERS)
        yield from _metrics(cfg, field.replace('_dataloader', '_evaluator'))
        loop = _loop_of(field)
        yield from _each(cfg.get(loop), loop, LOOPS)
    if 'train_dataloader' in loaders:
        yield from _optimizing(cfg)


def _datasets(value: Any, key: str) -> Iterator[_Entry]:
    """Yield a data set and those that it wraps, each after the wrapper."""
    for entry in _each(value, key, DATASETS):
        yield entry
        for name in ('dataset', 'datasets'):
            inner = entry.value.get(name)
            yield from _datasets(inner, f'{entry.key}.{name}')


def _steps(dataset: _Entry) -> Iterator[_Entry]:
    pipeline = dataset.value.get('pipeline')
    return _each(pipeline, f'{dataset.key}.pipeline', TRANSFORMS)


def _metrics(cfg: Config, key: str) -> Iterator[_Entry]:
    value = cfg.get(key)
    if isinstance(value, Mapping) and 'metrics' in value:  # an Evaluator
        value, key = value['metrics'], f'{key}.metrics'
    return _each(value, key, METRICS)


def _optimizing(cfg: Config) -> Iterator[_Entry]:
    wrapper = cfg.get('optim_wrapper')
    yield from _each(wrapper, 'optim_wrapper', OPTIM_WRAPPERS)
    if isinstance(wrapper, Mapping):
        key = 'optim_wrapper.optimizer'
        yield from _each(wrapper.get('optimizer'), key, OPTIMIZERS)
    schedulers = cfg.get('param_scheduler')
    yield from _each(schedulers, 'param_scheduler', PARAM_SCHEDULERS)


def _each(value: Any, key: str, root: Registry) -> Iterator[_Entry]:
    """Yield the dicts of a dict or a list; what is built already has none."""
    if isinstance(value, Mapping):
        yield _Entry(key, value, root)
    elif isinstance(value, (list, tuple)):
        for index, one in enumerate(value):
            if isinstance(one, Mapping):
                yield _Entry(f'{key}.{index}', one, root)


def _loop_of(loader: str) -> str:
    return loader.replace('_dataloader', '_cfg')


def _check_lengths(cfg: Config, loop: str) -> None:
    for name in _LENGTHS:
        value = (cfg.get(loop) or {}).get(name)
        # MMEngine takes floats, such as 1e9 for never.
        if value is not None and not (is_number(value) and value >= 1):
            raise ValueError(
                f'`{loop}.{name}` must be a number >= 1, got {value!r}.'
            )


def _check_seeds(cfg: Config, field: str) -> None:
    """Refuse ``SeedSample`` behind a sampler that hands no seeds on."""
    scope = cfg.get('default_scope')
    loader = cfg.get(field) or {}
    sampler = (loader.get('sampler') or {}).get('type')
    kind = resolve(sampler, scope, (DATA_SAMPLERS,))
    if not isinstance(kind, type) or issubclass(kind, SeededSampler):
        return
    for dataset in _datasets(loader.get('dataset'), f'{field}.dataset'):
        for key, step, _ in _steps(dataset):
            name = step.get('type')
            found = resolve(name, scope, (TRANSFORMS,))
            if isinstance(found, type) and issubclass(found, SeedSample):
                raise ValueError(
                    f'{key}.type={name!r} needs to know seed and epoch, and '
                    f'{field}.sampler.type={sampler!r} does not hand them '
                    f"on. Set {field}.sampler.type='SeededSampler', or leave "
                    'SeedSample out: images are then augmented differently '
                    'in each run.'
                )
