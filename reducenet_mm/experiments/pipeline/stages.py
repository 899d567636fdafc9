# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The stages of a pipeline one after another, until the student saturates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..processes import RunFailed
from ..scalars import validation_curve
from .config import Pipeline
from .handover import as_start
from .planned import Run
from .runs import Finished, Workshop, finish_run
from .saturation import Trained, check_percent, gains_of, judge

ALL_RUN = 'all stages were run'


@dataclass(frozen=True)
class Course:
    """What has become of the stages.

    Attributes:
        finished: Those that were trained, in order.
        shipped: The student stage whose network is the result.
        skipped: Those that were not worth training.
        end: Why there were no more.
    """

    finished: tuple[Finished, ...]
    shipped: Finished
    skipped: tuple[Run, ...]
    end: str

    @property
    def students(self) -> list[Finished]:
        """The student stages that were trained."""
        return _with_role(self.finished, 'student')

    @property
    def spent(self) -> dict[str, float]:
        """Training multiply-adds by stage, those that lost included."""
        return {one.run.name: one.multiply_adds for one in self.finished}


def run_stages(
    pipeline: Pipeline,
    stages: Sequence[Run],
    work_dir: Path,
    workshop: Workshop,
) -> Course:
    """Make sure that the stages are finished, as far as they pay.

    Without ``until`` every stage is run, each student starts from the one
    before and the last one is shipped. With it each starts from the best
    student so far, by validation at the stages' last epochs, and that is
    shipped.

    Args:
        pipeline: The pipeline.
        stages: Its stages, planned.
        work_dir: Folder of all results.
        workshop: What the pipeline's processes share.

    Raises:
        RunFailed: If training ends with an error, or ``until`` cannot
            judge by a metric like the teacher's.
        ParityError: If a student cannot be handed on as it is.
    """
    finished: list[Finished] = []
    best: Finished | None = None
    for index, run in enumerate(stages):
        inputs = _inputs(run, finished, best, work_dir, workshop)
        finished.append(finish_run(run, inputs, workshop))
        _check_metric(pipeline, finished[-1])
        if run.role != 'student':
            best = None
            _check_unit(pipeline, finished[-1])
            continue
        best, end = _choose(pipeline, finished)
        if end is not None:
            skipped = tuple(stages[index + 1 :])
            _announce(end, best, skipped, workshop)
            return Course(tuple(finished), best, skipped, end)
    assert best is not None  # check_stages: the last one is a student
    return Course(tuple(finished), best, (), ALL_RUN)


def describe_stages(
    pipeline: Pipeline, course: Course
) -> dict[str, Any] | None:
    """Return the report's part about what each student stage brought.

    None for a pipeline of one student stage and no ``until``.
    """
    if pipeline.until is None and len(course.students) < 2:
        return None
    metric = pipeline.metric
    trained = [_trained(one, metric) for one in course.students]
    rows: list[dict[str, Any]] = []
    for one, result, gain in zip(
        course.students, trained, gains_of(trained), strict=True
    ):
        curve = dict(validation_curve(one.run.work_dir, metric))
        rows.append(
            dict(
                name=one.run.name,
                start=curve.get(0),
                accuracy=result.accuracy,
                gain=gain,
                epochs=one.trained_epochs,
                planned_epochs=one.run.epochs,
                multiply_adds=one.multiply_adds,
                shipped=one is course.shipped,
            )
        )
    teacher = _with_role(course.finished, 'teacher')[-1]
    until = pipeline.until
    return dict(
        until=None if until is None else vars(until),
        teacher=dict(name=teacher.run.name, accuracy=teacher.accuracy(metric)),
        students=rows,
        skipped=[run.name for run in course.skipped],
        end=course.end,
    )


def _inputs(
    run: Run,
    finished: Sequence[Finished],
    best: Finished | None,
    work_dir: Path,
    workshop: Workshop,
) -> dict[str, Finished]:
    """Return the earlier results that a run needs, by config key."""
    if run.load_from is not None:
        (source,) = (s for s in finished if s.run.name == run.load_from)
        return {'load_from': source}
    if run.role != 'student':
        return {}
    inputs = {'model.teacher_ckpt': _with_role(finished, 'teacher')[-1]}
    if best is not None:
        inputs['model.student_init'] = as_start(
            best, run, work_dir, workshop.display
        )
    return inputs


def _choose(
    pipeline: Pipeline, finished: Sequence[Finished]
) -> tuple[Finished, str | None]:
    """Return the best student so far, and why to end, if so."""
    if pipeline.until is None:
        return finished[-1], None
    metric = pipeline.metric
    teacher = _with_role(finished, 'teacher')[-1].accuracy(metric)
    students = _with_role(finished, 'student')
    trained = [_trained(one, metric) for one in students]
    verdict = judge(pipeline.until, teacher, trained)
    return students[verdict.best], verdict.end


def _check_metric(pipeline: Pipeline, one: Finished) -> None:
    """Refuse a metric that a validated run has not logged."""
    cfg, metric = one.run.cfg, pipeline.metric
    interval = cfg.train_cfg.get('val_interval', 1)
    if cfg.get('val_cfg') is None or interval > one.trained_epochs:
        return  # never validated; an empty val_cfg is one
    if not validation_curve(one.run.work_dir, metric):
        raise RunFailed(
            f'{one.run.name} has logged no {metric!r} (`metric` of the '
            'pipeline config). Set it to one of those in its log, as '
            f'{one.run.work_dir} has it.'
        )


def _check_unit(pipeline: Pipeline, one: Finished) -> None:
    """Refuse a metric in another unit, before any student is trained."""
    if pipeline.until is None or one.run.role != 'teacher':
        return
    accuracy = one.accuracy(pipeline.metric)
    try:
        check_percent(pipeline.until, pipeline.metric, accuracy)
    except ValueError as error:
        raise RunFailed(f'{one.run.name}: {error}') from error


def _announce(
    end: str, best: Finished, skipped: Sequence[Run], workshop: Workshop
) -> None:
    names = ', '.join(run.name for run in skipped) or 'nothing'
    workshop.display.note(
        f'The stages end: {end}. {best.run.name} is shipped; skipped: {names}.'
    )


def _trained(one: Finished, metric: str) -> Trained:
    return Trained(one.run.name, one.accuracy(metric))


def _with_role(finished: Sequence[Finished], role: str) -> list[Finished]:
    return [one for one in finished if one.run.role == role]
