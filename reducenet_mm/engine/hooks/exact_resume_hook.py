# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Continue a run exactly where its checkpoint was written."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from reducenet_mm.files import remove_leftovers
from reducenet_mm.registry import HOOKS

from .runner_facts import epoch_length

LOOPS = EpochBasedTrainLoop, IterBasedTrainLoop
POSITION = 'train_position'
"""Key in a checkpoint."""


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make a resumed run do all that the interrupted one would have done.

    MMEngine restores weights, optimizer, schedules and counters. Before the
    first step this hook makes up for what it leaves out:

    * Checkpoints are written before the validation that is due, so that one
      is done first: curves have no hole, ``save_best`` and early stopping
      miss no validation.
    * An epoch that was interrupted is completed, not begun again
      (``EpochBasedTrainLoop`` with checkpoints by iteration).

    Random state needs no restoring where it is a function of the position:
    with ``SeededSampler``, ``SeedSample`` and ``SeededStepHook``. On CPUs
    weights also depend on the number of threads; another one is warned of.
    Other hooks go on only if they keep their state themselves: MMEngine's
    ``EarlyStoppingHook`` does not, which is warned of, and
    ``ResumableEarlyStoppingHook`` does.
    """

    priority = 'LOWEST'  # all other hooks are ready when it validates

    def __init__(self) -> None:
        self._saved: dict[str, Any] = {}

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Note in a checkpoint what its position in the training means."""
        if not isinstance(runner.train_loop, LOOPS):
            return
        meta = checkpoint['meta']
        # Loops count a step or an epoch after its hooks have run: a
        # checkpoint is ahead of them, unless it is saved at a validation.
        counted = (meta['epoch'], meta['iter']) == (runner.epoch, runner.iter)
        checkpoint[POSITION] = dict(
            validated=counted,
            threads=torch.get_num_threads(),
            **_units(runner),
        )
        steps = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if meta['iter'] % steps and meta['iter'] < runner.max_iters:
            runner.logger.warning(
                f'The checkpoint at iteration {meta["iter"]} lacks the '
                'gradients of an update that is not complete '
                f'(optim_wrapper.accumulative_counts={steps}), so that it '
                'cannot be resumed from exactly. Save after a multiple of it.'
            )

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Keep what a checkpoint says about its position."""
        self._saved = checkpoint.get(POSITION, {})

    def before_train(self, runner: Runner) -> None:
        """Go on from the checkpoint's position, if the run is resumed.

        Raises:
            ValueError: If the position is within an epoch and the sampler
                cannot leave out what has been trained on, or batches have
                another size now.
        """
        _warn_of_early_stopping(runner)
        _tidy_up(runner)
        loop = runner.train_loop
        if runner.iter == 0 or not isinstance(loop, LOOPS):
            return
        self._warn_of_threads(runner)
        done = self._batches_done(runner)
        if done > 0:
            _complete_epoch(runner, done)
        elif not self._saved.get('validated', False) and _must_validate(loop):
            runner.logger.info(
                'First comes the validation that the checkpoint was written '
                'before.'
            )
            _validate(runner)

    def _warn_of_threads(self, runner: Runner) -> None:
        """Warn of sums that torch splits in another way than before."""
        now = torch.get_num_threads()
        was = self._saved.get('threads', now)
        if was != now and get_device() == 'cpu':
            runner.logger.warning(
                f'Not resumed exactly: the checkpoint was written with {was} '
                f'threads, and this process computes with {now}. Set '
                f'OMP_NUM_THREADS={was}.'
            )

    def _batches_done(self, runner: Runner) -> int:
        """Return how many batches of the current epoch are trained on.

        0 for ``IterBasedTrainLoop``, which leaves them out by itself.

        Raises:
            ValueError: If batches or epochs have another size now.
        """
        now = _units(runner)
        was = {key: self._saved.get(key, now[key]) for key in now}
        done = 0
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            done = runner.iter - runner.epoch * was['epoch_length']
        if was == now and 0 <= done <= now['epoch_length']:
            return done
        message = (
            f'the checkpoint (epoch {runner.epoch}, iteration {runner.iter}) '
            f'is of a run with other batches or processes than now ({now})'
        )
        if done != 0:
            raise ValueError(
                f'{message}, so that its epoch cannot be completed. Set '
                'train_dataloader and the number of processes to what they '
                'were, or resume from the end of an epoch.'
            )
        runner.logger.warning(f'Not resumed exactly: {message}.')
        return 0


def _units(runner: Runner) -> dict[str, int]:
    """Return what an epoch and an iteration of this run are."""
    loop = runner.train_loop
    length = epoch_length(runner) or len(loop.dataloader)
    batch = getattr(loop.dataloader.batch_sampler, 'batch_size', 0)
    return dict(
        epoch_length=length, images_per_iteration=batch * get_world_size()
    )


def _warn_of_early_stopping(runner: Runner) -> None:
    """Warn of the hook that begins to wait anew in every session."""
    # Not of subclasses: they may keep their state.
    if any(type(hook) is EarlyStoppingHook for hook in runner.hooks):
        runner.logger.warning(
            'EarlyStoppingHook keeps nothing in checkpoints: when this run is '
            'resumed, it forgets the best score and how long it has been '
            'waiting, and trains longer than without the interruption. Set '
            "type='ResumableEarlyStoppingHook' instead, with the same "
            'arguments.'
        )


def _tidy_up(runner: Runner) -> None:
    """Remove what a kill has left behind inside a write."""
    if not is_main_process():
        return
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            for path in remove_leftovers(hook.out_dir):
                runner.logger.info(f'Removed {path}, left behind by a kill.')


def _complete_epoch(runner: Runner, done: int) -> None:
    """Let the sampler leave out the epoch's first ``done`` batches."""
    batches = runner.train_dataloader.batch_sampler
    sampler = getattr(batches, 'sampler', batches)
    if not hasattr(sampler, 'skip_samples'):
        raise ValueError(
            f'the checkpoint was saved after {done} batches of an epoch, and '
            f'{type(sampler).__name__} cannot leave those out. Set '
            "train_dataloader.sampler=dict(type='SeededSampler'), or resume "
            'from the end of an epoch.'
        )
    # The last batch of an epoch may be smaller.
    sampler.skip_samples(min(done * batches.batch_size, len(sampler)))
    runner.logger.info(
        f'Epoch {runner.epoch + 1} goes on after the {done} batches that it '
        'has been trained on.'
    )


def _validate(runner: Runner) -> None:
    """Validate, and let the loaded checkpoint know if it is the best.

    MMEngine writes a checkpoint anew for that, if it has been written by
    the same process.
    """
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            hook.last_ckpt = runner._load_from
    runner.val_loop.run()


def _must_validate(loop: EpochBasedTrainLoop | IterBasedTrainLoop) -> bool:
    """Whether the loop would validate at its position, by its own rule."""
    if loop.runner.val_loop is None:
        return False
    loop._decide_current_val_interval()
    if isinstance(loop, EpochBasedTrainLoop):
        position, last = loop.epoch, loop.max_epochs
    else:
        position, last = loop.iter, loop.max_iters
    is_due = position % loop.val_interval == 0 or position == last
    return position >= loop.val_begin and is_due
