# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Stages until the student saturates, on validation results by hand.

Trained by a script, see ``stage_bench.py``;
``test_tools/test_reduce_until.py`` trains for real.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from reducenet_mm.engine.preflight import check_config
from reducenet_mm.experiments.cost import build_model
from reducenet_mm.experiments.pipeline.handover import as_start, export_once
from reducenet_mm.experiments.pipeline.plan import fit_controls
from reducenet_mm.experiments.pipeline.planned import read_run_config
from reducenet_mm.experiments.pipeline.progress import Display
from reducenet_mm.experiments.pipeline.report_stages import (
    stage_reading,
    stage_rows,
)
from reducenet_mm.experiments.pipeline.runs import Finished
from reducenet_mm.experiments.pipeline.stages import describe_stages
from reducenet_mm.experiments.processes import RunFailed
from reducenet_mm.models.supernet import ungraft

from ..conftest import randomise_norms
from .stage_bench import METRIC, make_bench, plan_preset


@pytest.fixture(scope='module')
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return plan_preset(tmp_path_factory.mktemp('planned'))


@pytest.fixture
def bench(planned: tuple, tmp_path: Path) -> SimpleNamespace:
    return make_bench(*planned, tmp_path)


TEACHER = [90, 95, 97, 98.0]


def starts(bench: SimpleNamespace) -> dict[str, str]:
    """Return which file each student stage started from."""
    found = {}
    for name, _, options in bench.calls():
        path = options.get('model.student_init')
        if path not in (None, 'None'):
            found[name] = str(Path(path).relative_to(bench.work_dir))
    return found


def test_each_stage_starts_from_the_best_student_merged(
    bench: SimpleNamespace,
) -> None:
    _, course = bench.run(
        dict(
            teacher=TEACHER,
            reuse=[80, 90, 91, 92],
            soft_labels=[93, 94, 94, 94],
            features=[90, 95],
            lora=[95, 95, 95, 96],
        )
    )
    assert [one.run.name for one in course.students] == [
        'reuse',
        'soft_labels',
        'features',
        'lora',
    ]
    assert course.shipped.run.name == 'lora'
    assert (course.end, course.skipped) == ('all stages were run', ())
    assert starts(bench) == {
        'soft_labels': 'merged/reuse/student.pth',
        'features': 'merged/soft_labels/student.pth',
        'lora': 'merged/features/student.pth',
    }
    # An own start in a config is of no use here: the first student stage
    # has none, and the others are given theirs.
    lora = bench.stages['lora']
    assert lora.options['model.student_init'] is None


def test_a_lora_is_merged_before_a_stage_without_goes_on(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    lora, features = bench.stages['lora'], bench.stages['features']
    trained = tmp_path / 'tools' / 'lora.pth'
    finished = Finished(lora, trained, 'a' * 64, '', 1)
    start = as_start(
        finished, features, tmp_path, Display(Console(), [lora], METRIC)
    )
    assert start.sha256 == finished.sha256
    supernet = build_model(lora.cfg)
    weights = torch.load(trained, weights_only=True)['state_dict']
    supernet.load_state_dict(weights)
    expected = ungraft(supernet.architecture).eval()
    cfg = copy.deepcopy(features.cfg)
    cfg.model.student_init = str(start.checkpoint)
    student = check_config(cfg, (), init_weights=True).architecture.eval()
    images = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(
        student(images), expected(images), rtol=1e-4, atol=1e-4
    )
    without = {k: v for k, v in weights.items() if '.lora.' not in k}
    student.load_state_dict(
        {k.removeprefix('architecture.'): v for k, v in without.items()},
        strict=False,
    )
    assert not torch.allclose(
        student(images), expected(images), rtol=0.01, atol=0.01
    )


def test_a_pair_is_merged_before_a_stage_on_one_convolution_goes_on(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    """Merging leaves a bias to the norm; the next stage trains one."""
    block = {'model.architecture.backbone.block': 'sequential'}
    single = {**block, 'model.architecture.backbone.student_conv': 'merged'}
    base = bench.stages['soft_labels']
    first, second = (
        replace(
            base,
            name=name,
            cfg=read_run_config(base.config, {**base.options, **options}),
        )
        for name, options in (('first', block), ('second', single))
    )
    model = randomise_norms(build_model(first.cfg))
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    finished = Finished(first, path, 'a' * 64, '', 1)
    display = Display(Console(), [first], METRIC)
    start = as_start(finished, second, tmp_path, display)
    cfg = copy.deepcopy(second.cfg)
    cfg.model.student_init = str(start.checkpoint)
    student = check_config(cfg, (), init_weights=True).architecture.eval()
    expected = ungraft(model.architecture).eval()
    images = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(
        student(images), expected(images), rtol=1e-4, atol=1e-4
    )
    same = as_start(finished, first, tmp_path, display)
    assert same.checkpoint == path


def test_a_marker_never_stands_for_the_files_of_another_export(
    bench: SimpleNamespace, tmp_path: Path
) -> None:
    stage = bench.stages['soft_labels']
    display = Display(Console(), [stage], METRIC)
    path = tmp_path / 'epoch_1.pth'
    model = build_model(stage.cfg)
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    one = Finished(stage, path, 'a' * 64, '', 1)
    done = export_once(one, tmp_path / 'out', display)
    assert export_once(one, tmp_path / 'out', display) == done
    other = replace(one, checkpoint=tmp_path / 'gone.pth', sha256='b' * 64)
    with pytest.raises(RunFailed, match=r'soft_labels cannot be exp.*gone'):
        export_once(other, tmp_path / 'out', display)
    assert not (tmp_path / 'out' / 'export.json').exists()
    assert export_once(one, tmp_path / 'out', display) == done


def test_a_stage_that_lost_is_not_shipped_and_ends_the_pipeline(
    bench: SimpleNamespace,
) -> None:
    script = dict(
        teacher=TEACHER,
        reuse=[80, 92, 92, 92],
        soft_labels=[93, 91, 91],  # best epoch 93, but the last one counts
        features=[99, 99, 99, 99],
        lora=[99],
    )
    pipeline, course = bench.run(script)
    assert course.shipped.run.name == 'reuse'
    assert [run.name for run in course.skipped] == ['features', 'lora']
    assert 'soft_labels changed the best student by -1.00' in course.end
    assert 'reuse is shipped; skipped: features, lora' in (
        bench.printed.getvalue()
    )
    report = describe_stages(pipeline, course)
    assert report is not None
    content = dict(stages=report)
    assert [(row[0], *row[2:5], row[6]) for row in stage_rows(content)] == [
        ('reuse', '92.00', '-', '4 of 4', 'shipped'),
        ('soft_labels', '91.00', '-1.00', '3 of 4', 'ended early'),
        ('features', '-', '-', '-', 'skipped'),
        ('lora', '-', '-', '-', 'skipped'),
    ]
    assert 'reuse is the student that is shipped' in stage_reading(content)


def test_reaching_the_teacher_ends_it(bench: SimpleNamespace) -> None:
    script = dict(teacher=TEACHER, reuse=[99, 98.0], soft_labels=[99])
    _, course = bench.run(script)
    assert course.end.startswith('reuse reached the teacher (98.00 %')
    assert [one.run.name for one in course.finished] == ['teacher', 'reuse']


def test_a_metric_that_is_a_fraction_is_refused_behind_the_teacher(
    bench: SimpleNamespace,
) -> None:
    script = dict(teacher=[0.2, 0.3, 0.4, 0.41], reuse=[0.4, 0.4, 0.4, 0.4])
    message = r'teacher: .* accuracy/top1=0.41, .* `metric` in percent'
    with pytest.raises(RunFailed, match=message):
        bench.run(script)
    assert [name for name, *_ in bench.calls()] == ['teacher']


def test_a_metric_that_is_not_logged_is_refused_behind_the_teacher(
    bench: SimpleNamespace,
) -> None:
    """Also where nothing is judged by it before the report."""
    script = dict(teacher=TEACHER, reuse=[99, 98.0, 98, 98])
    with pytest.raises(RunFailed, match='top9.* of the pipeline config'):
        bench.run(script, changes=dict(metric='accuracy/top9', until=None))
    assert [name for name, *_ in bench.calls()] == ['teacher']


def test_controls_get_what_was_spent(bench: SimpleNamespace) -> None:
    script = dict(
        teacher=TEACHER, reuse=[80, 92, 92], soft_labels=[93, 91, 91]
    )
    pipeline, course = bench.run(script)
    per_epoch = {
        name: stage.cost.per_epoch for name, stage in bench.stages.items()
    }
    spent = (
        4 * per_epoch['teacher']
        + 3 * per_epoch['reuse']
        + 3 * per_epoch['soft_labels']
    )
    assert sum(course.spent.values()) == spent
    plain, restart = fit_controls(pipeline, bench.controls, course.spent)
    epoch = plain.cost.per_epoch
    assert abs(plain.multiply_adds - spent) <= epoch / 2
    assert plain.budget_ratio == plain.multiply_adds / spent
    assert plain.epochs < bench.controls[0].epochs
    share = 4 * per_epoch['teacher'] / spent
    assert restart.periods[0] == round(share * restart.epochs)
    assert restart.cfg.param_scheduler.periods == list(restart.periods)
    assert sum(restart.periods) == plain.epochs


def test_after_a_failure_the_same_decisions_come_again(
    bench: SimpleNamespace,
) -> None:
    script: dict[str, Any] = dict(
        teacher=TEACHER,
        reuse=[80, 92, 92, 92],
        soft_labels=[93, None, 91],
        features=[99],
    )
    with pytest.raises(RunFailed, match='out of memory'):
        bench.run(script)
    _, course = bench.run(script)
    assert [(name, start) for name, start, _ in bench.calls()] == [
        ('teacher', 0),
        ('reuse', 0),
        ('soft_labels', 0),
        ('soft_labels', 1),
    ]
    _, again = bench.run(script)
    assert len(bench.calls()) == 4
    assert again == course
    assert course.shipped.run.name == 'reuse'


def test_a_stage_may_not_end_early_without_a_validated_last_epoch(
    bench: SimpleNamespace,
) -> None:
    script = dict(teacher=TEACHER[:3], reuse=[80])
    with pytest.raises(RunFailed, match='without an intact .*epoch_4.pth'):
        bench.run(script)
