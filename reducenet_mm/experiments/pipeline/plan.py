# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The plan of a pipeline: every run with its length and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from reducenet_mm.engine.config_file import read_config
from reducenet_mm.engine.hooks.exact_resume_hook import ExactResumeHook
from reducenet_mm.engine.preflight import check_sections
from reducenet_mm.engine.preflight.hooks import hook_classes

from ..budget import matched_epochs, restart_periods, schedule_options
from ..checks import check_as_trained, check_checkpoints, errors_of, run_epochs
from ..cost import measure_training
from ..processes import option_arguments
from .config import Entry, Pipeline
from .planned import Run, check_unchanged, read_run_config
from .stage_order import check_stages, network_role


def plan_runs(pipeline: Pipeline, work_dir: Path) -> list[Run]:
    """Build and measure every run of a pipeline: stages, then controls.

    Stages that end early leave their controls a smaller budget, see
    :func:`fit_controls`.

    Args:
        pipeline: The pipeline.
        work_dir: Its work dir; each run gets ``runs/<name>`` in it.

    Raises:
        FileNotFoundError: If a data set is not there.
        ValueError: If a config cannot take part as it is meant to.
    """
    option_arguments({'model.teacher_ckpt': str(work_dir)})
    stages: list[Run] = []
    for entry in pipeline.stages:
        with errors_of(entry.name, entry.config):
            stages.append(_plan_stage(entry, pipeline, work_dir))
    check_stages(pipeline, stages)
    spent = {stage.name: stage.multiply_adds for stage in stages}
    controls: list[Run] = []
    for entry in pipeline.controls:
        with errors_of(entry.name, entry.config):
            run = _plan_control(entry, pipeline, work_dir)
            controls.append(_fit(run, entry, spent))
            check_as_trained(controls[-1].cfg, pipeline.metric)
    return stages + controls


def fit_controls(
    pipeline: Pipeline, controls: Sequence[Run], spent: Mapping[str, float]
) -> list[Run]:
    """Give controls the length that the stages have really cost.

    A function of what was trained alone: a pipeline that was killed and
    started again comes to the same plan.

    Args:
        pipeline: The pipeline.
        controls: Its controls, of any length.
        spent: Training multiply-adds of each trained stage by name, in
            order, those which lost included.

    Raises:
        RunFailed: If a config has changed since it was planned.
        ValueError: If the budget is too small for a control's restart.
    """
    entries = {entry.name: entry for entry in pipeline.controls}
    fitted = []
    for run in controls:
        check_unchanged(run.config, run.options, run.cfg)
        with errors_of(run.name, run.config):
            fitted.append(_fit(run, entries[run.name], spent))
    return fitted


def _plan_stage(entry: Entry, pipeline: Pipeline, work_dir: Path) -> Run:
    options, cfg = _read(entry, pipeline)
    is_student = 'architecture' in cfg.model
    if entry.epochs is not None:
        options.update(schedule_options(cfg, [entry.epochs]))
    may_end_early = False
    if is_student and pipeline.until is not None:
        more = pipeline.until.stage_options(cfg, pipeline.metric)
        may_end_early = bool(more)
        options.update(more)
    if is_student and cfg.model.get('student_init') is not None:
        options['model.student_init'] = None  # the pipeline chooses it
    cfg = read_run_config(entry.config, options)
    role = 'student' if is_student else network_role(cfg)
    return Run(
        name=entry.name,
        role=role,
        config=entry.config,
        options=options,
        cfg=cfg,
        work_dir=work_dir / 'runs' / entry.name,
        epochs=run_epochs(cfg),
        cost=measure_training(cfg),
        load_from=entry.load_from,
        may_end_early=may_end_early,
    )


def _read(entry: Entry, pipeline: Pipeline) -> tuple[dict[str, Any], Config]:
    """Return the options of a stage or control, and its config with them."""
    _refuse_inplace(entry)
    options = _base_options(entry, pipeline)
    cfg = read_run_config(entry.config, options)
    check_checkpoints(cfg)
    return options, cfg


def _refuse_inplace(entry: Entry) -> None:
    kind = str(read_config(str(entry.config), {}).model.get('type'))
    if kind.rpartition('.')[-1] == 'InplaceDistill':
        raise ValueError(
            'model.type=InplaceDistill trains teacher and student in one '
            'stage, so it is no stage of a pipeline. Train it by '
            'tools/train.py, or compare it by tools/experiment.py.'
        )


def _plan_control(entry: Entry, pipeline: Pipeline, work_dir: Path) -> Run:
    """Plan a control as long as its config says."""
    options, cfg = _read(entry, pipeline)
    if 'architecture' in cfg.model:
        raise ValueError(
            'this config needs a teacher (model.teacher_ckpt); a control '
            'must be an ordinary training.'
        )
    return Run(
        name=entry.name,
        role='control',
        config=entry.config,
        options=options,
        cfg=cfg,
        work_dir=work_dir / 'runs' / entry.name,
        epochs=run_epochs(cfg),
        cost=measure_training(cfg),
    )


def _fit(run: Run, entry: Entry, spent: Mapping[str, float]) -> Run:
    """Return a control at the cost of the stages."""
    total = sum(spent.values())
    epochs, ratio = matched_epochs(total, run.cost.per_epoch)
    periods = [epochs]
    if entry.restart_at is not None:
        names = list(spent)
        earlier = names[: names.index(entry.restart_at)]
        before = sum(spent[name] for name in earlier)
        periods = restart_periods(epochs, before, total)
    options = {**run.options, **schedule_options(run.cfg, periods)}
    return replace(
        run,
        options=options,
        cfg=read_run_config(run.config, options),
        epochs=epochs,
        budget_ratio=ratio,
        periods=tuple(periods),
    )


def _base_options(entry: Entry, pipeline: Pipeline) -> dict[str, Any]:
    options = {**entry.cfg_options, 'randomness.seed': pipeline.seed}
    option_arguments(options)
    cfg = read_run_config(entry.config, options)
    if cfg.get('default_hooks', {}) is None:
        raise ValueError(
            '`default_hooks`=None: set default_hooks=dict(exact_resume=dict('
            "type='ExactResumeHook')), without which a kill between a "
            'checkpoint and its validation would lose that validation.'
        )
    check_sections(cfg, ())
    kinds = [kind for *_, kind in hook_classes(cfg)]
    if not any(issubclass(kind, ExactResumeHook) for kind in kinds):
        # A kill between a checkpoint and its validation would lose that.
        options['default_hooks.resume_exactly.type'] = ExactResumeHook.__name__
    return options
