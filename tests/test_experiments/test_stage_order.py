# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which stages may follow one another; nothing is trained for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reducenet_mm.experiments.cost import TrainingCost
from reducenet_mm.experiments.pipeline.config import (
    Entry,
    Pipeline,
    read_pipeline,
)
from reducenet_mm.experiments.pipeline.plan import fit_controls, plan_runs
from reducenet_mm.experiments.pipeline.planned import Run, read_run_config
from reducenet_mm.experiments.pipeline.saturation import Until
from reducenet_mm.experiments.pipeline.stage_order import (
    check_stages,
    network_role,
    takes_merged,
    validates_on_test,
)
from reducenet_mm.experiments.processes import RunFailed

PIPELINES = sorted(Path('configs/pipelines').glob('*.py'))
DIGITS = Path('configs/reducenet/digits')
PLAIN = DIGITS / 'plain8-w16_digits.py'
TEACHER = DIGITS / 'reducenet8-w16-e4_digits_teacher.py'
STUDENT = DIGITS / 'reducenet8-w16-e4_digits_student.py'
PAIR = {'model.architecture.backbone.block': 'sequential'}


ZERO_INIT = {'model.backbone.zero_init_expand': True}


def run_of(entry: Entry) -> Run:
    """A planned run, but for its cost."""
    cfg = read_run_config(entry.config, entry.cfg_options)
    is_student = 'architecture' in cfg.model
    return Run(
        name=entry.name,
        role='student' if is_student else network_role(cfg),
        config=entry.config,
        options=entry.cfg_options,
        cfg=cfg,
        work_dir=Path('runs') / entry.name,
        epochs=1,
        cost=TrainingCost(1.0, 1, 1, (1, 8, 8)),
        load_from=entry.load_from,
    )


def check(
    *stages: tuple[str, Path, Mapping[str, Any]],
    load_from: Mapping[str, str] | None = None,
    restart_at: str | None = None,
    until: Until | None = None,
    metric: str = 'accuracy/top1',
) -> list[str]:
    """Check stages of (name, config, options); return their roles."""
    sources = load_from or {}
    entries = [
        Entry(name, config, dict(options), load_from=sources.get(name))
        for name, config, options in stages
    ]
    control = Entry('control', PLAIN, restart_at=restart_at)
    pipeline = Pipeline(PLAIN, 0, tuple(entries), (control,), metric, until)
    runs = [run_of(entry) for entry in entries]
    check_stages(pipeline, runs)
    return [run.role for run in runs]


SMALL = ('small', PLAIN, {})
BIG = ('big', TEACHER, {})
FIRST = ('first', STUDENT, {})
SECOND = ('second', STUDENT, {})


@pytest.mark.parametrize('path', PIPELINES, ids=lambda path: path.stem)
def test_the_presets_are_in_order(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'meta').mkdir()
    for split in ('train', 'val'):
        (tmp_path / split).mkdir()
        (tmp_path / 'meta' / f'{split}.txt').touch()
    monkeypatch.setenv('IMAGENET_ROOT', f'{tmp_path}/')
    pipeline = read_pipeline(path)
    runs = [run_of(entry) for entry in pipeline.stages]
    check_stages(pipeline, runs)
    roles = [run.role for run in runs]
    if 'grow' in path.stem:
        assert roles == ['plain', 'teacher', 'student']
        assert runs[1].cfg.model.backbone.zero_init_expand
        assert runs[2].cfg.model.reuse['freeze'] == 'all'
        assert runs[2].cfg.model.architecture.backbone.lora.kind == 'kxk_1x1'
    if 'until' in path.stem:
        names = ['reuse', 'soft_labels', 'features', 'lora']
        assert [run.name for run in runs] == ['teacher', *names]
        losses = [
            sorted((run.cfg.model.distiller or {}).get('distill_losses', []))
            for run in runs[1:]
        ]
        stages = [f'loss_stage{number}' for number in (1, 2, 3)]
        kl = ['loss_kl']
        assert losses == [[], kl, kl + stages, kl]
        assert pipeline.until is not None
        assert pipeline.until.patience is not None


def test_good_orders() -> None:
    assert check(BIG, FIRST, SECOND) == ['teacher', 'student', 'student']
    grown = ('big', TEACHER, ZERO_INIT)
    roles = check(SMALL, grown, FIRST, load_from={'big': 'small'})
    assert roles == ['plain', 'teacher', 'student']


def test_roles_are_checked() -> None:
    with pytest.raises(ValueError, match='the last one a student'):
        check(BIG)
    with pytest.raises(ValueError, match='the first stage must train a tea'):
        check(FIRST)
    with pytest.raises(ValueError, match=r"\['small'\] has no branches and"):
        check(SMALL, BIG, FIRST)


def test_growing_is_strict() -> None:
    wide = ('big', TEACHER, {**ZERO_INIT, 'model.backbone.base_channels': 8})
    with pytest.raises(
        ValueError, match=r"stages\[1\] \(big\): load_from='small' does not"
    ):
        check(SMALL, wide, FIRST, load_from={'big': 'small'})
    more = ('more', TEACHER, {'model.backbone.expansion': 2})
    with pytest.raises(ValueError, match='with another `expansion`'):
        check(BIG, more, FIRST, load_from={'more': 'big'})
    with pytest.raises(ValueError, match='would not start as that network'):
        check(SMALL, BIG, FIRST, load_from={'big': 'small'})
    with pytest.raises(ValueError, match='between ordinary trainings only'):
        check(BIG, FIRST, SECOND, load_from={'second': 'first'})


def test_branches_that_are_off_are_no_teacher() -> None:
    off = ('big', TEACHER, {'model.backbone.scaler': 0.0})
    with pytest.raises(ValueError, match=r'model\.backbone\.scaler=1'):
        check(off, FIRST)


def test_stages_that_are_compared_are_validated() -> None:
    keys = ('val_dataloader', 'val_cfg', 'val_evaluator')
    blind = ('big', TEACHER, dict.fromkeys(keys))
    check(blind, FIRST)
    with pytest.raises(ValueError, match='but val_dataloader is not set'):
        check(blind, FIRST, SECOND)
    in_part = ('big', TEACHER, {'val_evaluator': None})
    with pytest.raises(ValueError, match='val_evaluator is not set, but val'):
        check(in_part, FIRST)


def test_a_later_student_inherits_all_of_the_earlier_one() -> None:
    fresh = ('second', STUDENT, {'model.reuse.inherit': ['classifier']})
    with pytest.raises(
        ValueError, match=r"\(second\): model.reuse.inherit=\['classifier'\]"
    ):
        check(BIG, FIRST, fresh)


def test_a_pair_cannot_start_from_what_is_merged() -> None:
    cfg = read_run_config(STUDENT, PAIR)
    assert not takes_merged(cfg)
    single = {**PAIR, 'model.architecture.backbone.student_conv': 'merged'}
    assert takes_merged(read_run_config(STUDENT, single))
    assert takes_merged(read_run_config(STUDENT, {}))
    big = ('big', TEACHER, {'model.backbone.block': 'sequential'})
    check(big, ('first', STUDENT, PAIR), ('second', STUDENT, PAIR))
    with pytest.raises(ValueError, match='merged student of first'):
        check(big, ('first', STUDENT, single), ('second', STUDENT, PAIR))


def test_until_asks_for_stages_that_may_be_skipped() -> None:
    until = Until(min_gain=0.1)
    check(BIG, FIRST, SECOND, restart_at='first', until=until)
    with pytest.raises(
        ValueError, match=r"restart_at`='second' may be skipped .*\['first'\]"
    ):
        check(BIG, FIRST, SECOND, restart_at='second', until=until)
    check(BIG, FIRST, SECOND, restart_at='second')
    more = ('more', TEACHER, {})
    with pytest.raises(ValueError, match='all student stages after all'):
        check(BIG, FIRST, more, SECOND, until=until)
    check(BIG, FIRST, more, SECOND)


def test_a_student_is_not_chosen_by_test_images() -> None:
    options = {'val_dataloader.dataset.split': 'test'}
    on_test = ('first', STUDENT, options)
    assert validates_on_test(read_run_config(STUDENT, options))
    nested = {
        f'{part}_dataloader.dataset': dict(
            _delete_=True, type='ConcatDataset', datasets=[dict(pipeline=[i])]
        )
        for i, part in enumerate(('val', 'test'))
    }
    assert validates_on_test(read_run_config(STUDENT, nested))
    assert not validates_on_test(read_run_config(STUDENT, {}))
    assert check(BIG, on_test) == ['teacher', 'student']
    with pytest.raises(ValueError, match=r"first is .*type='HoldoutSplit'"):
        check(BIG, on_test, until=Until(min_gain=0.5))


def test_hooks_and_metrics_are_checked_before_anything_is_trained() -> None:
    fading = {
        'custom_hooks': [
            dict(type='SupernetSwitchHook'),
            dict(type='ScalerScheduleHook', end=20),
        ]
    }
    assert check(BIG, ('first', STUDENT, fading)) == ['teacher', 'student']
    second = ('second', STUDENT, fading)
    with pytest.raises(ValueError, match=r'second \(.*in the first of them'):
        check(BIG, FIRST, second)
    other = ('other', TEACHER, {})
    roles = check(BIG, FIRST, other, second)
    assert roles == ['teacher', 'student', 'teacher', 'student']
    with pytest.raises(ValueError, match=r'big \(.*accuracy/top_1'):
        check(BIG, FIRST, metric='accuracy/top_1')
    untested = {'test_evaluator': None}
    with pytest.raises(ValueError, match=r'first \(.*set test_evaluator'):
        check(BIG, ('first', STUDENT, untested))
    other = {'test_evaluator': [dict(type='SingleLabelMetric')]}
    wanted = r'first \(.*accuracy/top1.: test_evaluator measures single-label/'
    with pytest.raises(ValueError, match=wanted):
        check(BIG, ('first', STUDENT, other))
    awaited = {'default_hooks.checkpoint.save_best': 'accuracy/top9'}
    with pytest.raises(ValueError, match=r'first \(.*accuracy/top9'):
        check(BIG, ('first', STUDENT, awaited))


def test_every_run_has_an_exact_resume_hook(tmp_path: Path) -> None:
    without = {'default_hooks.exact_resume.type': 'EmptyCacheHook'}
    pipeline = read_pipeline(
        'configs/pipelines/digits.py',
        {'stages.0.cfg_options': without, 'controls.0.cfg_options': without},
    )
    for run in plan_runs(pipeline, tmp_path):
        hooks = run.cfg.default_hooks
        if run.name in ('teacher', 'plain'):
            assert hooks.exact_resume.type == 'EmptyCacheHook'
            assert hooks.resume_exactly.type == 'ExactResumeHook'
        else:
            assert hooks.exact_resume.type == 'ExactResumeHook'
            assert 'resume_exactly' not in hooks
    no_hooks = {'stages.0.cfg_options': {'default_hooks': None}}
    pipeline = read_pipeline('configs/pipelines/digits.py', no_hooks)
    with pytest.raises(ValueError, match='`default_hooks`=None'):
        plan_runs(pipeline, tmp_path)


def test_a_control_that_changes_meanwhile_is_not_fitted(
    tmp_path: Path,
) -> None:
    config = tmp_path / 'plain.py'
    config.write_text(f"_base_ = '{PLAIN.resolve()}'\n")
    pipeline = read_pipeline(
        'configs/pipelines/digits.py', {'controls.0.config': str(config)}
    )
    runs = [r for r in plan_runs(pipeline, tmp_path) if r.role == 'control']
    spent = dict(teacher=1e12, student=1e12)
    assert len(fit_controls(pipeline, runs, spent)) == 2
    config.write_text(
        config.read_text() + 'train_dataloader = dict(batch_size=8)'
    )
    with pytest.raises(RunFailed, match=r'plain\.py has changed'):
        fit_controls(pipeline, runs, spent)
