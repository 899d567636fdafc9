# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The last step from a config to the Runner of a training.

What ``tools/train.py`` and the cells of a campaign have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from reducenet_mm.models.checkpoint_checks import check_plain_state_dict
from reducenet_mm.models.checkpoint_views import is_distill_state_dict

from . import preflight
from .checkpointing import keep_two_checkpoints, settle_resume

SECTIONS = ('train_dataloader', 'train_cfg', 'optim_wrapper')
"""What a training config must have; see ``preflight.check_sections``."""

TEST_SECTIONS = ('test_dataloader', 'test_cfg', 'test_evaluator')
"""What a config must have for its network to be tested."""


def settle_training(
    cfg: Config,
    loaders: Sequence[str],
    say: Callable[[str], Any],
    *,
    search: bool,
) -> None:
    """Settle what to resume from and check everything, in place.

    Args:
        cfg: The full config, with its ``work_dir``.
        loaders: Top-level keys of the dataloaders that will be used.
        say: Is told what belongs into the run's log.
        search: Whether to look into the work dir for what to resume from
            even if ``load_from`` is set.

    Raises:
        FileNotFoundError: If data or a checkpoint is not there.
        ValueError: If the config, or a checkpoint for it, is wrong.
    """
    preflight.check_together(cfg)
    keep_two_checkpoints(cfg, say)
    checkpoint = settle_resume(cfg, say, search=search)
    model = preflight.check_config(
        cfg, loaders, init_weights=checkpoint is None
    )
    with preflight.no_side_effects():
        preflight.check_optimizing(cfg, model)
        preflight.check_hooks(cfg, model)
        preflight.check_forwards(cfg, model)
        preflight.check_metric_names(cfg, model)
    if checkpoint is not None:
        preflight.forget_missing_inputs(cfg, checkpoint)
        preflight.check_checkpoint(model, checkpoint)
    elif cfg.get('load_from'):
        _check_load_from(model, cfg.load_from)


def begin_log(runner: Runner, notes: Sequence[str]) -> None:
    """Log what was said of a config before there was a log."""
    for note in notes:
        runner.logger.info(note)
    warning = preflight.schedule_warning(runner.cfg)
    if warning is not None:
        runner.logger.warning(warning)


def _check_load_from(model: nn.Module, path: str) -> None:
    """Refuse what the Runner would refuse, or load nothing of.

    Raises:
        FileNotFoundError: If ``path`` is not there.
        ValueError: If it cannot be read, or is no checkpoint for ``model``.
    """
    check = getattr(model, 'check_resumable', None)  # of our algorithms
    if check is None and not is_distill_state_dict(model.state_dict()):
        check = check_plain_state_dict
    try:
        weights = preflight.read_weights(path)
        if check is not None:
            check(weights)
    except (FileNotFoundError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        kind = FileNotFoundError if missing else ValueError
        raise kind(
            f'load_from={path!r}: {error} To start without it, set '
            'load_from=None.'
        ) from error
