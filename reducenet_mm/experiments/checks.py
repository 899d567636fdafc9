# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What pipelines and campaigns check and read of their configs alike."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import EarlyStoppingHook

from reducenet_mm.engine.checkpointing import out_dir_of
from reducenet_mm.engine.preflight import (
    check_config,
    check_forwards,
    check_hooks,
    check_measured,
    check_metric_names,
    check_optimizing,
    check_sections,
    check_together,
    no_side_effects,
)
from reducenet_mm.engine.preflight.hooks import hook_classes
from reducenet_mm.engine.training import SECTIONS, TEST_SECTIONS

from .cost import LOADERS
from .processes import RunFailed
from .records import content_hash


def check_keys(where: str, item: Mapping[str, Any], known: set[str]) -> None:
    """Raise ``ValueError`` if ``item`` has a key that is not ``known``."""
    unknown = sorted(set(item) - known)
    if unknown:
        raise ValueError(
            f'{where} has unknown keys {unknown}; known are {sorted(known)}.'
        )


def check_entry(where: str, item: Any, known: set[str]) -> None:
    """Raise ``ValueError`` unless ``item`` is a dict of ``known`` keys."""
    if not isinstance(item, Mapping):
        raise ValueError(f'`{where}` must be a dict, got {item!r}.')
    check_keys(f'`{where}`', item, known)


def checked_config(
    where: str, item: Mapping[str, Any], source: Path, kind: str
) -> Path:
    """Return the config file that an entry names.

    Args:
        where: The entry's key.
        item: The entry, with `config` relative to the folder of ``source``.
        source: The config that it is in.
        kind: What that is the config of, such as ``'campaign'``.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If `config` is no string.
    """
    given = item.get('config')
    if not isinstance(given, str):
        raise ValueError(f'`{where}.config` must be a string, got {given!r}.')
    path = Path(os.path.normpath(source.parent / given))
    if not path.is_file():
        raise FileNotFoundError(
            f'`{where}.config`={given!r} is not there: {path} (relative to '
            f'the {kind} config {source}).'
        )
    return path


def flatten(options: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Turn nested dicts into one of dotted keys, as --cfg-options has."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f'{prefix}{key}.'))
        else:
            flat[f'{prefix}{key}'] = value
    return flat


def read_options(key: str, value: Any) -> dict[str, Any]:
    """Read training options, or checkpoints by option, to dotted keys.

    Args:
        key: Where they are, for the error.
        value: The dict, perhaps nested; None for none.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(value, Mapping | None):
        raise ValueError(
            f'`{key}` must be a dict of training options by dotted key, got '
            f'{value!r}.'
        )
    return flatten(value or {})


@contextmanager
def errors_of(name: str, config: Path) -> Iterator[None]:
    """Say in an error which stage, control or arm it is about."""
    where = f'{name} ({config})'
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{where}: {error}') from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{where}: {error}') from error


def check_as_trained(
    cfg: Config,
    metric: str,
    *,
    tested: bool = True,
    student_init: str | None = None,
    advice: str = '',
) -> None:
    """Check a training as its process will, which may come hours later.

    Args:
        cfg: Its config, without the checkpoints that it starts from; left
            unchanged.
        metric: What is compared, in validation and in the test.
        tested: Whether its network will be tested.
        student_init: What it names as ``model.student_init`` by then.
        advice: What to add to the error of a hook.

    Raises:
        ValueError: If the training would refuse it, could not be resumed, or
            its network could not be tested or compared.
        TypeError: If a setting has the wrong type.
    """
    cfg = copy.deepcopy(cfg)
    content_hash(cfg.to_dict())
    if not tested:
        cfg.update(dict.fromkeys(TEST_SECTIONS))
    check_sections(cfg, (*SECTIONS, *TEST_SECTIONS) if tested else SECTIONS)
    check_together(cfg)
    if student_init is not None:  # which hooks ask for; nothing reads it
        cfg.model.student_init = student_init
    with no_side_effects():
        model = check_config(cfg, LOADERS, init_weights=False)
        check_optimizing(cfg, model)
        check_forwards(cfg, model)
        check_metric_names(cfg, model)
        check_measured(cfg, model, metric)
        if tested:
            check_measured(cfg, model, metric, 'test')
        try:
            check_hooks(cfg, model)
        except ValueError as error:
            raise ValueError(f'{error} {advice}'.rstrip()) from error


def check_checkpoints(cfg: Config) -> None:
    """Raise ``ValueError`` if no last epoch would be found in a work dir."""
    check_sections(cfg, ())
    hook = (cfg.get('default_hooks') or {}).get('checkpoint', {})
    for key in ('by_epoch', 'save_last'):
        if hook is None or not hook.get(key, True):
            got = None if hook is None else f'dict({key}={hook[key]})'
            raise ValueError(
                f'default_hooks.checkpoint={got}: a run is what its last '
                "epoch's checkpoint holds. Set default_hooks.checkpoint=dict("
                "type='CheckpointHook', by_epoch=True, save_last=True)."
            )
    for key, _, kind in hook_classes(cfg):
        if issubclass(kind, EarlyStoppingHook):
            raise ValueError(
                f'{key} ends a training early, at a length that is not '
                'planned. Leave it out; `until.patience` of a pipeline lets '
                'student stages end early.'
            )
    out_dir = out_dir_of(cfg)
    if out_dir is not None:
        raise ValueError(
            f'default_hooks.checkpoint.out_dir={out_dir!r}: here checkpoints '
            'are looked for in the work dir of each run. Leave it out.'
        )


def run_epochs(cfg: Config) -> int:
    """Return how many epochs a config trains.

    Raises:
        ValueError: If it trains by iterations.
    """
    train_cfg = cfg.get('train_cfg') or {}
    epochs = train_cfg.get('max_epochs')
    if not train_cfg.get('by_epoch', True) or not isinstance(epochs, int):
        raise ValueError(
            'every run here trains by epochs; set train_cfg=dict('
            f'by_epoch=True, max_epochs=N), got {dict(train_cfg)}.'
        )
    return epochs


def check_end(last: Path, newest: Path | None, config: Path | str) -> None:
    """Raise ``RunFailed`` unless the newest intact checkpoint is the last."""
    if newest != last:
        raise RunFailed(
            f'training has ended without an intact {last}. It needs '
            "default_hooks.checkpoint=dict(type='CheckpointHook', "
            f'by_epoch=True, save_last=True) in {config}.'
        )
