# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Whether the hooks of a training and its model fit together."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS, DefaultScope
from mmengine.runner import Runner
from torch import nn

from ..toolbox import default_scope
from .build import CONFIG_ERRORS, with_key
from .model_keys import (
    Node,
    accepted_keys,
    check_keys,
    no_such_type,
    resolve,
)
from .run_settings import runner_class


def check_hooks(cfg: Config, model: nn.Module) -> None:
    """Let hooks look at the model, and the model ask for hooks.

    A hook that is for certain models or trainings has ``check_fit(model,
    train_cfg)``, and maybe ``check_settings(cfg)`` or ``check_beside(hooks,
    model)``; a model that relies on hooks has ``missing_hooks()``, which
    says why, by the hook's name. A hook without the first is not built.

    Args:
        cfg: The full config; it is not changed.
        model: What ``cfg.model`` builds.

    Raises:
        ValueError: If one of them objects, or a hook is not known, or a key
            of a ``CheckpointHook`` is not.
        TypeError: If a setting of a hook has the wrong type or name.
    """
    _check_saving(cfg)
    found = {
        base.__name__
        for _, _, kind in hook_classes(cfg)
        for base in inspect.getmro(kind)
    }
    hooks = list(hooks_with(cfg, 'check_fit'))
    for hook in hooks:
        hook.check_fit(model, cfg.train_cfg)
    for hook in hooks:
        if hasattr(hook, 'check_settings'):
            hook.check_settings(cfg)
        if hasattr(hook, 'check_beside'):
            hook.check_beside(hooks, model)
    missing_hooks = getattr(model, 'missing_hooks', dict)
    for name, reason in missing_hooks().items():
        if name not in found:
            raise ValueError(reason)


def hooks_with(cfg: Config, method: str) -> Iterator[Any]:
    """Build the hooks of a config that have a method; no others.

    Args:
        cfg: The full config; it is not changed.
        method: Its name.

    Raises:
        ValueError: If a hook is not known, or a setting is wrong.
        TypeError: If a setting has the wrong type or name.
    """
    for key, entry, kind in hook_classes(cfg):
        if hasattr(kind, method):
            yield build_hook(entry, key, default_scope(cfg))


def hook_classes(cfg: Config) -> Iterator[tuple[str, Any, type]]:
    """Yield key, entry and class of each hook that a config names.

    Raises:
        ValueError: If a hook is not known.
    """
    for key, entry in _entries(cfg):
        yield key, entry, _class_of(entry, key, default_scope(cfg))


def _check_saving(cfg: Config) -> None:
    """Refuse keys that ``CheckpointHook`` takes and no save does.

    Its constructor keeps all that it does not know for the Runner, whose
    first save would end the training.
    """
    more = _saved_beyond(cfg)
    for key, entry, kind in hook_classes(cfg):
        if isinstance(entry, Mapping) and issubclass(kind, CheckpointHook):
            known = accepted_keys(kind, closed=CheckpointHook)
            if known is not None and more is not None:
                node = Node(key, entry, default_scope(cfg), kind)
                check_keys(node, known | more | {'priority'})


def _saved_beyond(cfg: Config) -> set[str] | None:
    """Return what saving takes beyond what the hook itself hands on.

    That is nothing with MMEngine's own Runners; ``None`` if it is anything.
    """
    taken = accepted_keys(runner_class(cfg).save_checkpoint)
    given = accepted_keys(Runner.save_checkpoint)
    return None if taken is None or given is None else taken - given


def _entries(cfg: Config) -> Iterator[tuple[str, Any]]:
    """Yield key and value of all hooks but those that a config leaves out."""
    for name, entry in (cfg.get('default_hooks') or {}).items():
        if entry is not None:
            yield f'default_hooks.{name}', entry
    for index, entry in enumerate(cfg.get('custom_hooks') or ()):
        yield f'custom_hooks.{index}', entry


def _class_of(entry: Any, key: str, scope: str) -> Any:
    if not isinstance(entry, Mapping):
        return type(entry)
    kind, scope = entry.get('type'), entry.get('_scope_', scope)
    found = resolve(kind, scope, (HOOKS,))
    if found is None:
        raise ValueError(no_such_type(key, entry, scope, HOOKS))
    return found


def build_hook(entry: Any, key: str, scope: str) -> Any:
    """Build a hook as the Runner would.

    Args:
        entry: Its settings, which are not changed, or the hook itself.
        key: Where it stands.
        scope: The default one of its config.

    Raises:
        ValueError: If a setting is wrong.
        TypeError: If a setting has the wrong type or name.
    """
    if not isinstance(entry, Mapping):
        return entry
    settings = copy.deepcopy(dict(entry))
    settings.pop('priority', None)  # the Runner's
    try:
        with DefaultScope.overwrite_default_scope(scope):
            return HOOKS.build(settings)
    except CONFIG_ERRORS as error:
        raise with_key(error, key) from error
