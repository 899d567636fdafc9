# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Lengths, costs and cells of a small campaign on the digits."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from reducenet_mm.experiments.campaign.config import read_campaign
from reducenet_mm.experiments.campaign.crew import Crew, Settings
from reducenet_mm.experiments.campaign.ledger import Ledger
from reducenet_mm.experiments.campaign.plan import (
    Cell,
    PlannedArm,
    plan_arms,
    plan_cells,
)
from reducenet_mm.experiments.records import write_marker

DIGITS = Path(__file__).parents[2] / 'configs' / 'reducenet' / 'digits'
SELF_DISTIL = f"""
_base_ = '{DIGITS}/plain8-w16_digits.py'
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor')
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
    teacher_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
    distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=4.0)),
    loss_forward_mappings=dict(loss_kl=dict(
        preds_S=dict(recorder='fc', from_student=True),
        preds_T=dict(recorder='fc', from_student=False))))
model = dict(
    _delete_=True, _scope_='mmrazor', type='SingleTeacherDistill',
    architecture=dict(_base_.model, init_cfg=dict(
        type='Pretrained', checkpoint='somewhere.pth')),
    teacher=_base_.model, teacher_ckpt='somewhere.pth', distiller=distiller)
"""
CAMPAIGN = f"""
seeds = [3, 4]
arms = dict(
    soft=dict(
        config='{DIGITS}/reducenet8-w16-e4_digits_student.py', epochs=5,
        needs={{'model.teacher_ckpt': 'teacher'}}, control='matched'),
    teacher=dict(
        config='{DIGITS}/reducenet8-w16-e4_digits_teacher.py', epochs=4),
    matched=dict(config='{DIGITS}/plain8-w16_digits.py', match='soft'),
    restart=dict(
        config='{DIGITS}/plain8-w16_digits.py', match='soft',
        restart_after='teacher'),
    doubled=dict(
        config='{DIGITS}/plain8-w16_digits.py', match='matched', times=2),
    self_distil=dict(config='self_distil.py', epochs=3, needs={{
        'model.teacher_ckpt': 'matched',
        'model.architecture.init_cfg.checkpoint': 'matched'}}),
    teacher_again=dict(
        config='{DIGITS}/reducenet8-w16-e4_digits_teacher.py', match='soft',
        needs={{'load_from': 'teacher'}}),
)
"""


@pytest.fixture(scope='module')
def plan(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A campaign, its planned arms and its cells."""
    folder = tmp_path_factory.mktemp('campaign')
    source = folder / 'campaign.py'
    source.write_text(CAMPAIGN)
    (folder / 'self_distil.py').write_text(SELF_DISTIL)
    campaign = read_campaign(source)
    arms = plan_arms(campaign)
    cells = plan_cells(campaign, arms, folder / 'work')
    return SimpleNamespace(
        source=source,
        campaign=campaign,
        arms=arms,
        cells=cells,
        by_name={cell.name: cell for cell in cells},
        work_dir=folder / 'work',
    )


def test_needed_arms_are_part_of_the_cost(plan: SimpleNamespace) -> None:
    arms: dict[str, PlannedArm] = plan.arms
    teacher, soft = arms['teacher'], arms['soft']
    assert list(arms) == list(plan.campaign.arms)
    assert (teacher.epochs, soft.epochs) == (4, 5)
    assert teacher.total_multiply_adds == 4 * teacher.cost.per_epoch
    assert soft.total_multiply_adds == (
        4 * teacher.cost.per_epoch + 5 * soft.cost.per_epoch
    )
    # Needed twice, paid once.
    assert arms['self_distil'].total_multiply_adds == (
        arms['matched'].own_multiply_adds
        + 3 * arms['self_distil'].cost.per_epoch
    )


def test_matched_arms_cost_what_they_match(plan: SimpleNamespace) -> None:
    arms: dict[str, PlannedArm] = plan.arms
    total = arms['soft'].total_multiply_adds
    for name, wanted in (
        ('matched', total),
        ('restart', total),
        ('doubled', 2 * arms['matched'].total_multiply_adds),
        ('teacher_again', total),
    ):
        arm = arms[name]
        missed = arm.total_multiply_adds - wanted
        assert abs(missed) <= arm.cost.per_epoch / 2
        assert arm.budget_ratio == pytest.approx(
            arm.total_multiply_adds / wanted
        )
    assert arms['teacher_again'].epochs < arms['matched'].epochs
    share = arms['teacher'].total_multiply_adds / total
    first, second = arms['restart'].periods
    assert first == round(share * (first + second))
    assert arms['restart'].cfg.param_scheduler.periods == [first, second]
    assert arms['doubled'].cfg.train_cfg.max_epochs == arms['doubled'].epochs


def test_a_budget_is_that_of_all_that_an_arm_needs(
    plan: SimpleNamespace,
) -> None:
    wanted = plan.arms['soft'].total_multiply_adds
    more = 3.4 * plan.arms['soft'].cost.per_epoch
    options = {'arms.soft.epochs': None, 'arms.soft.budget': wanted + more}
    arms = plan_arms(read_campaign(plan.source, options))
    assert arms['soft'].epochs == plan.arms['soft'].epochs + 3
    share = arms['soft'].total_multiply_adds / (wanted + more)
    assert arms['soft'].budget_ratio == pytest.approx(share)
    assert arms['matched'].epochs > plan.arms['matched'].epochs


def test_a_stock_distillation_counts_its_teachers_forward(
    plan: SimpleNamespace,
) -> None:
    plain, distil = plan.arms['matched'], plan.arms['self_distil']
    forward = plain.size.multiply_adds
    assert distil.cost.per_image == plain.cost.per_image + forward
    assert distil.size == plain.size


def test_a_student_is_measured_as_it_is_deployed(
    plan: SimpleNamespace,
) -> None:
    assert plan.arms['soft'].size == plan.arms['matched'].size
    assert plan.arms['teacher'].size.params > 2 * plan.arms['soft'].size.params


def test_cells_are_hashed_with_all_that_they_depend_on(
    plan: SimpleNamespace,
) -> None:
    hashes = {cell.name: cell.hash for cell in plan.cells}
    assert len(set(hashes.values())) == len(plan.cells) == 14
    cfg = copy.deepcopy(plan.arms['teacher'].cfg)
    cfg.train_cfg.val_begin = 2
    changed = {
        **plan.arms,
        'teacher': dataclasses.replace(plan.arms['teacher'], cfg=cfg),
    }
    for other in (dict(threads=2), dict(metric='accuracy/top5')):
        campaign = dataclasses.replace(plan.campaign, **other)
        again = plan_cells(campaign, plan.arms, plan.work_dir)
        assert not {cell.hash for cell in again} & {*hashes.values()}
    again = plan_cells(plan.campaign, changed, plan.work_dir)
    same = {cell.name for cell in again if cell.hash == hashes[cell.name]}
    differ = {'teacher', 'soft', 'teacher_again'}
    assert same == {
        cell.name for cell in plan.cells if cell.arm.name not in differ
    }


def test_checkpoints_of_the_same_seed_are_handed_on(
    plan: SimpleNamespace,
) -> None:
    names = [cell.name for cell in plan.cells]
    assert names[:2] == ['teacher seed 3', 'soft seed 3']
    assert names[7:9] == ['teacher seed 4', 'soft seed 4']
    options = plan.by_name['self_distil seed 4'].options
    epochs = plan.arms['matched'].epochs
    checkpoint = plan.work_dir / f'runs/matched/seed4/epoch_{epochs}.pth'
    assert options['randomness.seed'] == 4
    assert options['model.teacher_ckpt'] == str(checkpoint)
    key = 'model.architecture.init_cfg.checkpoint'
    assert options[key] == str(checkpoint)


def order(cell: Cell, epoch: int) -> list[int]:
    """Return the images of an epoch in the order of a cell's training."""
    cfg = Config.fromfile(cell.arm.arm.config)
    cfg.merge_from_dict(cell.options)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        loader = Runner.build_dataloader(
            cfg.train_dataloader, seed=cfg.randomness.seed
        )
    loader.sampler.set_epoch(epoch)
    return [int(index) for index in loader.sampler]


def test_arms_of_a_seed_see_the_data_in_the_same_order(
    plan: SimpleNamespace,
) -> None:
    cells = plan.by_name
    plain = order(cells['matched seed 3'], 0)
    assert order(cells['soft seed 3'], 0) == plain
    assert order(cells['self_distil seed 3'], 0) == plain
    assert sorted(plain) == list(range(997)) != plain
    assert order(cells['matched seed 4'], 0) != plain
    assert order(cells['matched seed 3'], 1) != plain


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'arms.soft.cfg_options': {'model.architecture.backbone.dep': 8}},
            r'^arms.soft \(.*model.architecture.backbone.dep',
        ),
        (
            {'arms.matched.needs': {'load_from': 'soft'}},
            r'^arms.matched .*leaves nothing to train with',
        ),
        (
            {'arms.soft.epochs': None, 'arms.soft.budget': 1e9},
            r'^arms.soft .*`budget`=1e\+09 leaves nothing.*teacher: ',
        ),
        (
            {'arms.soft.needs': {'model.teacher_chpt': 'teacher'}},
            'arms.soft .*unknown key model.teacher_chpt',
        ),
        (
            {'arms.teacher.cfg_options': {'param_scheduler.type': 'StepLR'}},
            'arms.teacher .*CosineRestartLR',
        ),
        (
            {
                'arms.matched.cfg_options': {
                    'default_hooks.checkpoint.out_dir': 'elsewhere'
                }
            },
            "arms.matched .*checkpoint.out_dir='elsewhere'",
        ),
        (
            {'arms.restart.restart_after': 'soft'},
            'arms.restart .*`restart_after` an arm that costs more',
        ),
        # What has been measured before, for an arm that is alike:
        (
            {'arms.doubled.cfg_options': {'test_evaluator.type': 'Acuracy'}},
            "arms.doubled .*'Acuracy'.*Did you mean 'Accuracy'",
        ),
        (
            {
                'arms.doubled.cfg_options': {
                    'default_hooks.checkpoint.save_best': 'acc'
                }
            },
            "arms.doubled .*save_best='acc'",
        ),
        (
            {'arms.doubled.cfg_options': {'test_cfg': None}},
            'arms.doubled .*does not set test_cfg',
        ),
        (
            {'arms.doubled.cfg_options': {'default_hooks': 5}},
            'arms.doubled .*default_hooks must be a dict, got 5',
        ),
        (
            {'arms.doubled.cfg_options': {'optim_wrapper.optimizer.lr': 'x'}},
            'arms.doubled .*optim_wrapper: ',
        ),
        ({'metric': 'accuracy/top_1'}, "`metric`='accuracy/top_1'"),
    ],
)
def test_an_arm_that_cannot_be_planned_is_named(
    plan: SimpleNamespace, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plan_arms(read_campaign(plan.source, options))


def test_what_is_not_tested_needs_no_test_set(plan: SimpleNamespace) -> None:
    keys = ('test_dataloader', 'test_cfg', 'test_evaluator')
    options = {'cfg_options': dict.fromkeys(keys)}
    campaign = read_campaign(plan.source, options)
    with pytest.raises(ValueError, match='does not set test_dataloader'):
        plan_arms(campaign)
    planned = plan_arms(campaign, tested=False)
    assert planned['soft'].cost == plan.arms['soft'].cost
    campaign = read_campaign(plan.source, {'cfg_options': {'test_cfg': None}})
    assert (
        plan_arms(campaign, tested=False)['soft'].cost == planned['soft'].cost
    )


def record(cell: Cell, status: str = 'finished') -> dict[str, Any]:
    return dict(
        arm=cell.arm.name,
        seed=cell.seed,
        hash=cell.hash,
        status=status,
        test={'accuracy/top1': 90.0},
    )


def test_what_is_still_to_be_run(
    plan: SimpleNamespace, tmp_path: Path
) -> None:
    cells = plan_cells(plan.campaign, plan.arms, tmp_path)[:7]
    by_arm = {cell.arm.name: cell for cell in cells}
    ledger = Ledger(tmp_path / 'results.jsonl')
    ledger.append(record(by_arm['restart'], 'failed'))
    settings = Settings('accuracy/top1')
    crew = Crew(cells, ledger, tmp_path, settings, lambda *_: None)
    # An earlier failure is tried again.
    assert set(crew.states(ledger.read()).values()) == {'open'}
    ledger.append(record(by_arm['restart'], 'failed'))
    ledger.append(record(by_arm['teacher']))
    ledger.append(record(by_arm['doubled']))
    states = crew.states(ledger.read())
    assert states['restart seed 3'] == 'failed'
    assert states['doubled seed 3'] == 'finished'
    # Its result is there, but not the checkpoint that `soft` starts from.
    assert states['teacher seed 3'] == 'open'
    by_arm['teacher'].folder.mkdir(parents=True)
    by_arm['teacher'].checkpoint.write_bytes(b'')
    # A file of that name alone may be another configuration's.
    for digest in (None, 'another', by_arm['teacher'].hash):
        if digest is not None:
            write_marker(by_arm['teacher'].folder, digest, {})
        state = crew.states(ledger.read())['teacher seed 3']
        ours = digest == by_arm['teacher'].hash
        assert state == ('finished' if ours else 'open')
    by_arm['teacher'].checkpoint.unlink()
    for name in ('soft', 'teacher_again'):
        ledger.append(record(by_arm[name]))
    assert crew.states(ledger.read())['teacher seed 3'] == 'finished'


@pytest.mark.parametrize(
    ('doubled', 'message'),
    [
        ('matched', r"'matched' costs 1\.00 times as much"),
        ('teacher', r"'teacher' costs 0\.\d\d times as much"),
    ],
)
def test_twice_the_budget_is_twice_the_budget(
    plan: SimpleNamespace, doubled: str, message: str
) -> None:
    regime = dict(control='matched', doubled='doubled')
    asked = dataclasses.replace(plan.campaign, regime=regime)
    assert list(plan_arms(asked)) == list(plan.arms)
    regime['doubled'] = doubled
    with pytest.raises(ValueError, match=message):
        plan_arms(asked)
