# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Checkpoints that have nothing for a layer are refused by the layer.

MMEngine loads what fits, maybe nothing, and only warns; and it hands every
module its own part of a checkpoint only. So this is all that a layer can see
of a checkpoint of another kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor


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
