# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Find the dicts outside ``model`` that MMEngine builds something from.

Passed over are what has been built already, transforms inside others, and
what is built for several optimizers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

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
from mmengine.visualization import Visualizer

from ..toolbox import default_scope
from .model_keys import Node, resolve


class Entry(NamedTuple):
    """A dict outside ``model`` that something is built from.

    Attributes:
        key: Where it stands.
        value: The dict.
        root: Of the registry that knows its ``type``.
        scope: In force for it and what is inside.
        default: What is built if it has no ``type``, ``None`` if nothing.
    """

    key: str
    value: Mapping[str, Any]
    root: Registry
    scope: str
    default: type | None = None

    @property
    def target(self) -> Any:
        """What its ``type`` means, ``None`` if nothing."""
        kind = self.value.get('type', self.default)
        return resolve(kind, self.scope, (self.root,))

    @property
    def node(self) -> Node:
        """It, as the checks of keys have it."""
        return Node(self.key, self.value, self.scope, self.target)


def entries(cfg: Config, loaders: Sequence[str]) -> Iterator[Entry]:
    """Yield what a run will build, each before what is inside it.

    Args:
        cfg: The full config.
        loaders: Top-level keys of the dataloaders that it will use. What
            optimizes is yielded beside ``train_dataloader`` only.
    """
    scope = default_scope(cfg)
    for field in loaders:
        for dataset in datasets(cfg, field):
            yield dataset
            yield from steps(dataset)
        loader = settings(cfg.get(field))
        for name in ('sampler', 'batch_sampler'):
            key = f'{field}.{name}'
            yield from _each(loader.get(name), key, DATA_SAMPLERS, scope)
        yield from _evaluating(cfg, field, scope)
        key = field.replace('_dataloader', '_cfg')
        loop = _default_loop(field, settings(cfg.get(key)))
        yield from _each(cfg.get(key), key, LOOPS, scope, loop)
    if 'train_dataloader' in loaders:
        yield from optimizing(cfg)
    key = 'log_processor'
    yield from _each(cfg.get(key), key, LOG_PROCESSORS, scope, LogProcessor)
    key = 'visualizer'
    found = _each(cfg.get(key), key, VISUALIZERS, scope, Visualizer)
    for visualizer in found:
        yield visualizer
        yield from _inside(visualizer, 'vis_backends', VISBACKENDS)


def optimizing(cfg: Config) -> Iterator[Entry]:
    """Yield what a training optimizes with, wrapper before optimizer."""
    scope = default_scope(cfg)
    key = 'optim_wrapper'
    wrappers = _each(cfg.get(key), key, OPTIM_WRAPPERS, scope, OptimWrapper)
    for wrapper in wrappers:
        if not {'type', 'optimizer', 'constructor'} & set(wrapper.value):
            continue  # one of several
        yield wrapper
        yield from _inside(wrapper, 'optimizer', OPTIMIZERS)
        if 'constructor' in wrapper.value:
            constructor = dict(type=wrapper.value['constructor'])
            yield Entry(
                f'{key}.constructor',
                constructor,
                OPTIM_WRAPPER_CONSTRUCTORS,
                wrapper.scope,
            )
    key = 'param_scheduler'
    yield from _each(cfg.get(key), key, PARAM_SCHEDULERS, scope)


def datasets(cfg: Config, field: str) -> Iterator[Entry]:
    """Yield the data sets of a loader, each before those that it wraps."""
    found = settings(cfg.get(field)).get('dataset')
    key = f'{field}.dataset'
    yield from _wrapping(_each(found, key, DATASETS, default_scope(cfg)))


def steps(dataset: Entry) -> Iterator[Entry]:
    """Yield the transforms of a data set."""
    return _inside(dataset, 'pipeline', TRANSFORMS)


def settings(value: Any) -> Mapping[str, Any]:
    """Return a dict of settings, an empty one for what is built already."""
    return value if isinstance(value, Mapping) else {}


def _evaluating(cfg: Config, field: str, scope: str) -> Iterator[Entry]:
    key = field.replace('_dataloader', '_evaluator')
    if 'metrics' not in settings(cfg.get(key)):
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


def _inside(entry: Entry, name: str, root: Registry) -> Iterator[Entry]:
    value = entry.value.get(name)
    return _each(value, f'{entry.key}.{name}', root, entry.scope)


def _each(
    value: Any,
    key: str,
    root: Registry,
    scope: str,
    default: type | None = None,
) -> Iterator[Entry]:
    """Yield a dict, or those in a list."""
    many = isinstance(value, (list, tuple))
    for index, one in enumerate(value if many else [value]):
        if isinstance(one, Mapping):
            where = f'{key}.{index}' if many else key
            inner = one.get('_scope_', scope)
            yield Entry(where, one, root, inner, default)
