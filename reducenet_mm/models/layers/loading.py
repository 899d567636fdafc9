# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Checkpoints that have nothing for a network are refused by it.

MMEngine loads what fits, maybe nothing, and only warns; and it hands every
module its own part of a checkpoint only. So this is all that a backbone can
see of a checkpoint of another kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

HANDLE = '_loading_watch'
"""Attribute of a module that :func:`watch_loading` has been called for."""


def check_has_part(
    keys: Iterable[str], state_dict: Mapping[str, Tensor], prefix: str
) -> None:
    """Raise if a checkpoint has nothing for a module.

    Args:
        keys: The module's own keys.
        state_dict: As ``_load_from_state_dict`` gets it, likewise
            ``prefix``.
        prefix: Of the module's keys in it.

    Raises:
        ValueError: If none of the keys is there.
    """
    wanted = [prefix + key for key in keys]
    if any(key in state_dict for key in wanted):
        return
    raise ValueError(
        f'this checkpoint has nothing for the network (no `{wanted[0]}`), so '
        'nothing of it would be loaded. If its keys begin with architecture., '
        "it is a distillation checkpoint: use the student's config, or the "
        'student alone, which tools/export.py writes. If they lack '
        "`backbone.`, it is a backbone's: set init_cfg=dict("
        "type='Pretrained', checkpoint=FILE) in its config, with "
        "prefix='backbone.' if they have it."
    )


def watch_loading(model: nn.Module) -> None:
    """Let a module of another's class check what is loaded into it."""
    if not hasattr(model, HANDLE):
        handle = model.register_load_state_dict_pre_hook(_refuse_empty)
        setattr(model, HANDLE, handle)


def unwatch_loading(model: nn.Module) -> None:
    """Undo :func:`watch_loading` of a model and of all inside it."""
    for module in model.modules():
        handle = module.__dict__.pop(HANDLE, None)
        if handle is not None:
            handle.remove()


def _refuse_empty(
    module: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *_: Any
) -> None:
    check_has_part(module.state_dict(), state_dict, prefix)
