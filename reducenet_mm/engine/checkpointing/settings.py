# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Settle in a config, before the Runner, what to keep and to resume from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from reducenet_mm.models.newest_checkpoint import newest_checkpoint


def keep_two_checkpoints(cfg: Config, say: Callable[[str], Any]) -> None:
    """Keep two checkpoints where the config keeps one, in place.

    MMEngine deletes the oldest before it writes the newest: a kill in
    between would leave none.

    Args:
        cfg: The full config.
        say: Is told of a change.
    """
    checkpoint = _checkpoint_hook(cfg)
    if checkpoint.get('max_keep_ckpts') == 1:
        checkpoint['max_keep_ckpts'] = 2
        say(
            'default_hooks.checkpoint.max_keep_ckpts=1 is raised to 2: the '
            'only checkpoint would be deleted before the next is written.'
        )


def settle_resume(
    cfg: Config, say: Callable[[str], Any], *, search: bool = False
) -> str | None:
    """Set ``load_from`` to what ``resume`` means, in place.

    Without any checkpoint to resume from, ``resume`` is switched off: the
    run starts at its beginning, from ``load_from`` if that is set.

    Args:
        cfg: The full config, with its ``work_dir``.
        say: Is told what has been found.
        search: Whether to look into the work dir even if ``load_from`` is
            set.

    Returns:
        The checkpoint to resume from, or None.

    Raises:
        ValueError: If there are only damaged checkpoints.
    """
    if not cfg.get('resume'):
        return None
    if search or not cfg.get('load_from'):
        newest = newest_checkpoint(cfg.work_dir, say, out_dir_of(cfg))
        if newest is None:
            say(f'No checkpoint is in {cfg.work_dir} yet: training starts.')
            cfg.resume = False
            return None
        say(f'{newest} is the newest intact checkpoint: training goes on.')
        cfg.load_from = str(newest)
    return cfg.load_from


def out_dir_of(cfg: Config) -> str | None:
    """Return where the checkpoints of runs go, if not into work dirs."""
    return _checkpoint_hook(cfg).get('out_dir')


def _checkpoint_hook(cfg: Config) -> dict[str, Any]:
    """Return the hook's config; an empty one if there is none."""
    return (cfg.get('default_hooks') or {}).get('checkpoint') or {}
