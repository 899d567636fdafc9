# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The moment at which the teacher becomes the student."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from math import ceil, nan
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.amp import autocast

from reducenet_mm.models.supernet import (
    TEACHER,
    using_view,
)
from reducenet_mm.plain_numbers import as_number
from reducenet_mm.registry import HOOKS

from .runner_facts import loader_of_its_own, unwrapped_model

TEACHER_METRICS = 'supernet_teacher_metrics'
"""Key in the message hub, so that a resumed run knows them too."""

Metrics = dict[str, float]


@HOOKS.register_module()
class SupernetSwitchHook(Hook):
    """Measure the switch, recalibrate norms, report the teacher.

    Before the first step of a distillation stage: validates the teacher and
    the student, re-estimates the student's norm statistics if
    ``norm_stats='recalibrated'``, validates again and logs the *drop shock*.
    Afterwards every validation also reports ``teacher/<metric>``; as the
    teacher's function is fixed, it is measured once. A model that has no such
    teacher is left alone, with a warning.

    Args:
        recalib_samples: Training images to re-estimate statistics from.

    Raises:
        ValueError: If ``recalib_samples`` < 1.
    """

    def __init__(self, recalib_samples: int = 8192) -> None:
        if recalib_samples < 1:
            raise ValueError(
                'recalib_samples must be >= 1, got '
                f'{recalib_samples}. Set it in custom_hooks.'
            )
        self.recalib_samples = recalib_samples

    def check_fit(self, model: Any, train_cfg: Any = None) -> None:
        """Raise ``ValueError`` if ``model`` trains both networks at once."""
        if hasattr(model, 'set_position'):
            raise ValueError(
                "custom_hooks has dict(type='SupernetSwitchHook'), which is "
                'for a switch from a fixed teacher, and model.type='
                f'{type(model).__name__!r} has none. Set custom_hooks='
                "[dict(type='InplaceHook')], as configs/_base_/inplace do."
            )

    def before_train(self, runner: Runner) -> None:
        """Switch, unless the stage is resumed."""
        model = unwrapped_model(runner)
        self.check_fit(model)
        if not hasattr(model, 'check_ready'):
            runner.logger.warning(
                f'SupernetSwitchHook does nothing: {type(model).__name__} has '
                'no scaler-1 teacher to switch from, which model.type='
                "'SupernetDistill' has. Leave it out of custom_hooks."
            )
            return
        model.check_ready()
        if runner.iter > 0:
            return
        student = model.architecture  # whatever model.predict_view says
        measured = {'student': self._validate(runner, student)}
        if model.teacher_overlay is not None or model.starts_as_teacher:
            teacher = self._validate(runner, _teacher(model))
            runner.message_hub.update_info(TEACHER_METRICS, teacher)
            measured = {'teacher': teacher, **measured}
        if model.norm_stats == 'recalibrated':
            loader = loader_of_its_own(runner)
            # A batch sampler, as MMDetection's configs have, knows its own.
            size = loader.batch_size or loader.batch_sampler.batch_size
            batches = ceil(self.recalib_samples / (size * get_world_size()))
            recalibrate(model, loader, batches)
            measured['student_recalibrated'] = self._validate(runner, student)
        _log_switch(runner, measured)

    def after_val_epoch(
        self, runner: Runner, metrics: Metrics | None = None
    ) -> None:
        """Add the teacher's metrics to the validation's log."""
        hub = runner.message_hub
        for name, value in hub.runtime_info.get(TEACHER_METRICS, {}).items():
            hub.update_scalar(f'val/teacher/{name}', value)

    @torch.no_grad()
    def _validate(
        self, runner: Runner, predict: Callable[..., Any]
    ) -> Metrics:
        """Evaluate ``predict`` on the validation set, outside any loop.

        The loop's own ``run`` would call the hooks that save checkpoints.
        """
        loop = runner.val_loop
        if loop is None:
            return {}
        model = unwrapped_model(runner)
        model.eval()
        fp16 = getattr(loop, 'fp16', False)  # as the loop does it
        for batch in loop.dataloader:
            data = model.data_preprocessor(batch, False)
            with autocast(enabled=fp16):
                outputs = predict(**data, mode='predict')
            loop.evaluator.process(data_samples=outputs, data_batch=batch)
        metrics = loop.evaluator.evaluate(len(loop.dataloader.dataset))
        model.train()
        # Some metrics are tables or texts; a drop is only of numbers.
        numbers = {name: as_number(value) for name, value in metrics.items()}
        return {k: value for k, value in numbers.items() if value is not None}


@torch.no_grad()
def recalibrate(model: Any, loader: Iterable[Any], num_batches: int) -> None:
    """Re-estimate the statistics of the student's norms (``moving_norms``).

    They become the averages, over batches and processes, of the batches'
    means and variances. In place; nothing else of the model changes. Norms
    that predicting does not execute, such as those of an auxiliary head,
    keep what they have.

    Source: "Rethinking Batch in BatchNorm" (2021), section 3, as MMPretrain's
    ``update_bn_stats``. We deviate in that buffers stay the same tensors and
    that norms which were not executed are left alone.

    Args:
        model: The algorithm, not wrapped.
        loader: Training batches, augmented as in training.
        num_batches: How many of them to use, on each process.
    """
    student = model.architecture
    norms = [student.get_submodule(name) for name in model.moving_norms]
    momentums = [norm.momentum for norm in norms]
    before = [copy.deepcopy(norm.state_dict()) for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
        norm.train()
    with _unmixed(model.data_preprocessor) as preprocess:
        for batch in islice(loader, num_batches):
            student(**preprocess(batch, True))
    for norm, momentum, state in zip(norms, momentums, before, strict=True):
        norm.momentum = momentum
        if norm.num_batches_tracked == 0:
            norm.load_state_dict(state)
            continue
        all_reduce(norm.running_mean, op='mean')
        all_reduce(norm.running_var, op='mean')
    model.recalibrated = True
    model.train()


@contextmanager
def _unmixed(preprocessor: Any) -> Iterator[Any]:
    """Leave out ``batch_augments``: images as they are seen alone.

    All else is as in training, where MMSegmentation's images may differ in
    size and are padded.
    """
    augments = getattr(preprocessor, 'batch_augments', None)
    if augments is None:
        yield preprocessor
        return
    preprocessor.batch_augments = None
    try:
        yield preprocessor
    finally:
        preprocessor.batch_augments = augments


def _teacher(model: Any) -> Callable[..., Any]:
    """Return the teacher as a callable; before any step it is always known."""
    if model.teacher_overlay is not None:
        return model.teacher

    def call(inputs: Any, data_samples: Any, mode: str) -> Any:
        with using_view(model.architecture, TEACHER):
            return model.architecture(inputs, data_samples, mode=mode)

    return call


def _log_switch(runner: Runner, measured: dict[str, Metrics]) -> None:
    """Log the drop shock in words and as scalars at step 0.

    A network may lack a metric: a detector that finds nothing has no mAP.
    """
    names = dict.fromkeys(name for one in measured.values() for name in one)
    for metric in names:
        values = {
            network: metrics[metric]
            for network, metrics in measured.items()
            if metric in metrics
        }
        text = ', '.join(
            f'{network} {measured[network].get(metric, nan):.4g}'
            for network in measured
        )
        runner.logger.info(f'Drop shock at the switch, {metric}: {text}')
        runner.visualizer.add_scalars(
            {f'switch/{net}/{metric}': value for net, value in values.items()},
            step=0,
        )
