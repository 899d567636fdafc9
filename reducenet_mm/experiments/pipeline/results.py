# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""All figures of a finished pipeline, as plain values for JSON."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..code_version import versions
from ..cost import build_model, count_test_images, network_size
from ..processes import RunFailed, from_here, shell_command
from ..scalars import drop_shock, validation_curve
from ..steps import COUNTED
from .config import Pipeline
from .evaluate import Candidate
from .reading import plain_reading
from .runs import Finished
from .stage_order import validates_on_test
from .stages import Course, describe_stages


@dataclass(frozen=True)
class Outcome:
    """What a pipeline has left behind.

    Attributes:
        finished: Its runs.
        course: What has become of its stages.
        candidates: The networks compared.
        tests: Their test results by name.
        latency: Their latency and its conditions.
        export: How the exported student was checked.
    """

    finished: Sequence[Finished]
    course: Course
    candidates: Sequence[Candidate]
    tests: Mapping[str, Mapping[str, Any]]
    latency: Mapping[str, Any]
    export: Mapping[str, Any]


def collect(pipeline: Pipeline, outcome: Outcome) -> dict[str, Any]:
    """Return the content of ``report.json``."""
    course = outcome.course
    shipped, first = course.shipped, course.students[0]
    content = dict(
        pipeline=pipeline.source.stem,
        seed=pipeline.seed,
        metric=pipeline.metric,
        command=shell_command([sys.executable, *sys.argv]),
        versions=versions(),
        trained_by=_distinct_codes(outcome.finished),
        platform=f'{platform.system()} {platform.machine()}',
        counted=COUNTED,
        stages_multiply_adds=sum(course.spent.values()),
        test_images=count_test_images(shipped.run.cfg),
        validated_on_test=any(
            validates_on_test(one.run.cfg) for one in outcome.finished
        ),
        drop_shock=drop_shock(first.run.work_dir, pipeline.metric),
        stages=describe_stages(pipeline, course),
        runs=[_run(one, pipeline.metric) for one in outcome.finished],
        networks=_networks(pipeline, outcome),
        latency_conditions=outcome.latency['conditions'],
        export={k: v for k, v in outcome.export.items() if k != 'hash'},
    )
    content['reading'] = plain_reading(content)
    return content


def standard_error(accuracy: float, images: int) -> float:
    """Return the standard error of an accuracy, in percentage points.

    Args:
        accuracy: In percent.
        images: How many test images it is from.
    """
    return math.sqrt(accuracy * (100 - accuracy) / images)


def _distinct_codes(
    finished: Sequence[Finished],
) -> list[Mapping[str, Any] | None]:
    """Return by what the runs were trained; None: it is not known."""
    codes: list[Mapping[str, Any] | None] = []
    for one in finished:
        codes += [code for code in one.codes if code not in codes]
    return codes


def _run(one: Finished, metric: str) -> dict[str, Any]:
    run = one.run
    return dict(
        name=run.name,
        role=run.role,
        config=from_here(run.config),
        epochs=one.trained_epochs,
        planned_epochs=run.epochs,
        periods=list(run.periods),
        images_per_epoch=run.cost.images_per_epoch,
        multiply_adds_per_image=run.cost.per_image,
        multiply_adds=one.multiply_adds,
        budget_ratio=run.budget_ratio,
        validation=[list(p) for p in validation_curve(run.work_dir, metric)],
        sessions=one.sessions,
        checkpoint_sha256=one.sha256,
        command=one.command,
    )


def _networks(pipeline: Pipeline, outcome: Outcome) -> list[dict[str, Any]]:
    shape = outcome.finished[0].run.cost.input_shape
    by_name = {one.run.name: one for one in outcome.finished}
    rows = []
    for candidate in outcome.candidates:
        one = by_name[candidate.name]
        paid = _paid(one, outcome.finished)
        size = network_size(build_model(candidate.cfg), shape)
        test = outcome.tests[candidate.name]
        if pipeline.metric not in test['metrics']:
            raise RunFailed(
                f'testing {candidate.name} gave no {pipeline.metric!r} '
                f'(`metric`), but {sorted(test["metrics"])}.'
            )
        accuracy = float(test['metrics'][pipeline.metric])
        images = count_test_images(candidate.cfg)
        rows.append(
            dict(
                name=candidate.name,
                role=one.run.role,
                title=_title(one),
                accuracy=accuracy,
                standard_error=standard_error(accuracy, images),
                metrics=test['metrics'],
                params=size.params,
                multiply_adds=size.multiply_adds,
                training_multiply_adds=sum(p.multiply_adds for p in paid),
                training_epochs=[p.trained_epochs for p in paid],
                latency=outcome.latency['networks'].get(candidate.name),
                test_command=test['command'],
                test_evaluations=test['evaluations'],
            )
        )
    return rows


def _paid(one: Finished, finished: Sequence[Finished]) -> list[Finished]:
    """Return the runs that a network has cost.

    A stage needs all before it. The shipped student was chosen among all
    stages, so it pays for those too that lost.
    """
    if one.run.role == 'control':
        return [one]
    stages = [other for other in finished if other.run.role != 'control']
    if one.run.role == 'student':
        return stages
    return stages[: stages.index(one) + 1]


def _title(one: Finished) -> str:
    run = one.run
    if run.role == 'teacher':
        return f'{run.name} (scaler 1)'
    if run.role == 'student':
        return f'{run.name} (exported)'
    if run.role == 'plain':
        return f'{run.name} (before it grew)'
    kind = 'control' if len(run.periods) == 1 else 'control, restart'
    return f'{run.name} ({kind})'
