# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Find the dicts outside ``model`` that MMEngine builds something from.

Passed over are what has been built already, transforms inside others, and
what is built for several optimizers. Of classes that are from neither here
nor a toolbox, arguments may mean what they like: inside them, only dicts with
a ``type`` count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.optim import OptimWrapper
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    EVALUATOR,
    LOG_PROCESSORS,
    LOOPS,
    METRICS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    VISBACKENDS,
    VISUALIZERS,
    Registry,
)
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    LogProcessor,
    TestLoop,
    ValLoop,
)

from ..toolbox import default_scope, is_known
from .model_keys import Node, resolve

DEFAULT_CONSTRUCTOR = 'DefaultOptimWrapperConstructor'
"""Of optimizer wrappers, in MMEngine."""


@dataclass(frozen=True)
class Entry(Node):
    """A dict outside ``model`` that something is built from.

    Its scope is in force for what is inside, too.

    Attributes:
        root: Root registry of the one that knows its ``type``.
    """

    root: Registry


def iter_entries(cfg: Config, loaders: Sequence[str]) -> Iterator[Entry]:
    """Yield what a run will build, each before what is inside it.

    Args:
        cfg: The full config.
        loaders: Top-level keys of the dataloaders that it will use. What
            optimizes is yielded beside ``train_dataloader`` only.

    Raises:
        ValueError: If something is neither a dict nor built already.
    """
    scope = default_scope(cfg)
    for field in loaders:
        for dataset in iter_datasets(cfg, field):
            yield dataset
            yield from iter_steps(dataset)
        loader = as_settings(cfg.get(field))
        for name in ('sampler', 'batch_sampler'):
            key = f'{field}.{name}'
            yield from _each(loader.get(name), key, DATA_SAMPLERS, scope)
        yield from _evaluating(cfg, field, scope)
        key = field.replace('_dataloader', '_cfg')
        loop = _default_loop(field, as_settings(cfg.get(key)))
        yield from _each(cfg.get(key), key, LOOPS, scope, loop)
    if 'train_dataloader' in loaders:
        yield from iter_optimizing(cfg)
    if loaders:  # then there will be a Runner
        yield from _logging(cfg, scope)


def iter_optimizing(cfg: Config) -> Iterator[Entry]:
    """Yield what a training optimizes with, wrapper before optimizer."""
    scope = default_scope(cfg)
    key = 'optim_wrapper'
    wrapper = as_settings(cfg.get(key))
    if {'type', 'optimizer', 'constructor'} & set(wrapper):  # or several
        for one in _each(wrapper, key, OPTIM_WRAPPERS, scope, OptimWrapper):
            yield one
            known = is_known(constructor_of(cfg))
            yield from _inside(one, 'optimizer', OPTIMIZERS, known)
    key = 'param_scheduler'
    found = cfg.get(key)
    if not _of_several_optimizers(as_settings(found)):
        yield from _each(found, key, PARAM_SCHEDULERS, scope)


def constructor_of(cfg: Config) -> Any:
    """Return what builds the optimizer wrapper, ``None`` if it is unknown."""
    wrapper = as_settings(cfg.get('optim_wrapper'))
    name = wrapper.get('constructor', DEFAULT_CONSTRUCTOR)
    scope = wrapper.get('_scope_', default_scope(cfg))
    return resolve(name, scope, (OPTIM_WRAPPER_CONSTRUCTORS,))


def iter_datasets(cfg: Config, field: str) -> Iterator[Entry]:
    """Yield the data sets of a loader, each before those that it wraps."""
    found = as_settings(cfg.get(field)).get('dataset')
    key = f'{field}.dataset'
    yield from _wrapping(_each(found, key, DATASETS, default_scope(cfg)))


def iter_steps(dataset: Entry) -> Iterator[Entry]:
    """Yield the transforms of a data set."""
    return _inside(dataset, 'pipeline', TRANSFORMS)


def as_settings(value: Any) -> Mapping[str, Any]:
    """Return a dict of settings, an empty one for what is built already."""
    return value if isinstance(value, Mapping) else {}


def _logging(cfg: Config, scope: str) -> Iterator[Entry]:
    key = 'log_processor'
    yield from _each(cfg.get(key), key, LOG_PROCESSORS, scope, LogProcessor)
    key = 'visualizer'
    for visualizer in _each(cfg.get(key), key, VISUALIZERS, scope):
        yield visualizer
        yield from _inside(visualizer, 'vis_backends', VISBACKENDS)


def _evaluating(cfg: Config, field: str, scope: str) -> Iterator[Entry]:
    key = field.replace('_dataloader', '_evaluator')
    if 'metrics' not in as_settings(cfg.get(key)):
        yield from _each(cfg.get(key), key, METRICS, scope)
        return
    for evaluator in _each(cfg[key], key, EVALUATOR, scope, Evaluator):
        yield evaluator
        yield from _inside(evaluator, 'metrics', METRICS)


def _default_loop(field: str, loop: Mapping[str, Any]) -> type | None:
    if field == 'train_dataloader':
        if 'by_epoch' not in loop:
            return None
        return EpochBasedTrainLoop if loop['by_epoch'] else IterBasedTrainLoop
    return ValLoop if field == 'val_dataloader' else TestLoop


def _wrapping(found: Iterator[Entry]) -> Iterator[Entry]:
    for dataset in found:
        yield dataset
        for name in ('dataset', 'datasets'):
            yield from _wrapping(_inside(dataset, name, DATASETS))


def _inside(
    entry: Entry, name: str, root: Registry, known: bool | None = None
) -> Iterator[Entry]:
    """Yield what stands in an argument of an entry.

    Args:
        entry: The entry.
        name: Of the argument.
        root: Of the registry that knows what is built from it.
        known: Whether this is what the argument means; by default, if the
            class of the entry is of a toolbox.
    """
    value = entry.cfg.get(name)
    if not (is_known(entry.target) if known is None else known):
        many = value if isinstance(value, (list, tuple)) else [value]
        value = [one if 'type' in as_settings(one) else None for one in many]
    return _each(value, f'{entry.key}.{name}', root, entry.scope)


def _of_several_optimizers(found: Mapping[str, Any]) -> bool:
    """Whether there are schedulers by the name of their optimizer."""
    if not found or 'type' in found:
        return False
    values = [
        one
        for value in found.values()
        for one in (value if isinstance(value, (list, tuple)) else [value])
    ]
    return not any(isinstance(v, (str, bool, int, float)) for v in values)


def _each(
    value: Any,
    key: str,
    root: Registry,
    scope: str,
    default: type | None = None,
) -> Iterator[Entry]:
    """Yield a dict, or those in a list, with what their types mean.

    Args:
        value: What stands at ``key``; what is built already is passed over.
        key: Where it stands.
        root: Of the registry that knows a ``type``.
        scope: In force there.
        default: What is built without a ``type``, if anything.

    Raises:
        ValueError: If it can be neither.
    """
    many = isinstance(value, (list, tuple))
    for index, one in enumerate(value if many else [value]):
        where = f'{key}.{index}' if many else key
        if isinstance(one, (str, bytes, bool, int, float)):
            raise ValueError(
                f'{where} must be a dict of settings with `type`, got {one!r}.'
            )
        if isinstance(one, Mapping):
            inner = one.get('_scope_', scope)
            target = resolve(one.get('type', default), inner, (root,))
            yield Entry(where, one, inner, target, root)
