# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""How images are prepared, where MMPretrain's inferencer looks for it.

It reads ``test_dataloader.dataset.pipeline``, which a config trained with
need not have: its test set may be wrapped, or missing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from reducenet_mm.datasets.wrapped import innermost
from reducenet_mm.engine.toolbox import scope_of

from .plain_data import plain, unscoped

_REPEATING = ('RepeatDataset', 'ConcatDataset')
"""Wrappers whose accuracy is that of the data set inside, if it is one."""

_GREY = dict(type='RandomGrayscale', prob=1.0, channel_weights=(1.0, 2.0, 1.0))
"""Colours become grey, and grey values stay what they are, to the bit."""

_SPLIT = 'HoldoutSplit'
"""A wrapper that takes the pipeline of the data set inside."""


def for_inferencer(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return evaluation settings in which the inferencer finds a pipeline.

    The images stay the same where that is possible: a ``RepeatDataset`` is
    unwrapped, a ``HoldoutSplit`` gets the pipeline too. Of all other
    wrappers the first data set inside is taken, without metrics: they would
    be those of other images.

    Args:
        data: Validation and test settings by top-level key, not changed.
            Without a test set, they are those of validation.

    Returns:
        The settings as they are if no data set has a pipeline.
    """
    found = dict(data if data.get('test_dataloader') else _with_test(data))
    loader = found.get('test_dataloader') or {}
    dataset = _unwrapped(loader.get('dataset') or {})
    first = innermost(dataset)[0]
    if 'pipeline' not in first:
        return found
    if 'pipeline' not in dataset:
        if unscoped(dataset.get('type')) == _SPLIT:
            dataset = dict(dataset, pipeline=copy.deepcopy(first['pipeline']))
        else:
            dataset = first
            if found.get('test_evaluator'):
                found['test_evaluator'] = []
    found['test_dataloader'] = {**loader, 'dataset': dataset}
    return found


def accept_colour(data: Mapping[str, Any]) -> None:
    """Let test pipelines begin by making images grey, in place."""
    dataset = (data.get('test_dataloader') or {}).get('dataset') or {}
    inside = [one for one in innermost(dataset) if one is not dataset]
    for one in (dataset, *inside):
        steps = list(one.get('pipeline', ()))
        if not steps:
            continue
        loads = unscoped(steps[0].get('type')) == 'LoadImageFromFile'
        if loads and steps[0].get('to_float32'):
            continue  # the transform would round what it gets
        steps.insert(int(loads), copy.deepcopy(_GREY))
        one['pipeline'] = steps


def data_notes(cfg: Config, kept: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know of the data in an exported config.

    Args:
        cfg: The config with which the checkpoint was trained.
        kept: The exported one.
    """
    dataset = (kept.get('test_dataloader') or {}).get('dataset') or {}
    if 'pipeline' not in dataset:
        return [
            'The config of the training does not say how test or validation '
            "images are prepared: MMPretrain's inferencer needs "
            'test_dataloader.dataset.pipeline, so add it.'
        ]
    notes = []
    source = 'test' if cfg.get('test_dataloader') else 'val'
    if source == 'val':
        notes.append(
            'The training had no test_dataloader: the test settings below '
            'are its validation settings.'
        )
    if cfg.get(f'{source}_evaluator') and not kept['test_evaluator']:
        trained = plain(cfg[f'{source}_dataloader'].dataset, scope_of(cfg))
        notes.append(
            'test_dataloader only says how images are prepared, for '
            "MMPretrain's inferencer. The training's was a "
            f'{unscoped(trained["type"])}, of which this is the first data '
            'set, so without the metrics: they would measure other images '
            'than it did.'
        )
    return notes


def _with_test(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return settings whose test settings are those of validation."""
    if not data.get('val_dataloader'):
        return data
    val = {key: data[key] for key in data if key.startswith('val_')}
    test = {
        key.replace('val_', 'test_', 1): copy.deepcopy(value)
        for key, value in val.items()
    }
    if 'test_cfg' in test:  # whose type, if it has one, is a ValLoop
        test['test_cfg'].pop('type', None)
    return {**val, **test}


def _unwrapped(dataset: Any) -> Any:
    """Return a data set without wrappers that measure the same."""
    inner = [dataset.get('dataset'), *(dataset.get('datasets') or ())]
    inner = [one for one in inner if isinstance(one, Mapping)]
    same = unscoped(dataset.get('type')) in _REPEATING and len(inner) == 1
    return _unwrapped(inner[0]) if same else dataset
