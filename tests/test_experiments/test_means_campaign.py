# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The arms of ``configs/experiments/_base_/means.py``, each run for real.

Few images and steps, but all arms in order: each starts from the checkpoints
that the arms before it have left.
"""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from reducenet_mm.engine.config_file import read_config
from reducenet_mm.experiments.campaign.arms import in_order
from reducenet_mm.experiments.campaign.config import Campaign, read_campaign

CAMPAIGN = 'configs/experiments/digits-few/means.py'
ARMS = list(read_campaign(CAMPAIGN).arms)
STEPS = 8

STUDENT = r'(?!.*\.expand\.).*'
MAIN = r'backbone\.layer\d\.0\.conv1\.weight'
BODY = rf'(?!head){STUDENT}'
NEW_CONV = r'backbone\.layer\d\.0\.conv1\.(weight|bias)'
LORA = r'.*\.lora\..*'
ALL = '.*'
TRAINED = dict(
    keep_classifier=BODY,
    keep_norms=rf'(?!.*(bn|downsample\.1)){BODY}',
    main_conv=MAIN,
    june=rf'{MAIN}|.*\.downsample\..*',
    classifier_only=r'(?!head\.fc\.weight)' + STUDENT,
    lora_kxk=LORA,
    lora_weight=LORA,
    lora_1x1=LORA,
    lora_act=LORA,
    grow_shrink=LORA,
    new_conv=NEW_CONV,
    head_of_teacher=BODY,
    head_of_plain=BODY,
    head_of_random=BODY,
    new_conv_fresh=NEW_CONV,
    branches_train=ALL,
    grown=ALL,
    inplace=ALL,
    inplace_sandwich=ALL,
    inplace_netaug=ALL,
    **dict.fromkeys([name for name in ARMS if 'teacher_' in name], ALL),
)
"""Parameters that train, as a regular expression; else all of the student."""

STAGES = {f'loss_stage{i}' for i in (1, 2, 3)}
SOFT = dict(
    inherit=set(),
    june=set(),
    classifier_only=set(),
    inplace_netaug=set(),
    dkd={'loss_dkd'},
    dist={'loss_dist'},
    features=STAGES,
    attention=STAGES,
    soft_features={'loss_kl', *STAGES},
    inplace_sandwich={'loss_kl', 'sandwich_0.loss_kl'},
)
"""Losses on the teacher's records, if not the soft labels' alone."""


class Watch(Hook):
    """Keep the parameters before the training, and the last losses."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        self.before = parameters(runner)

    def after_train_iter(self, runner, batch_idx, data_batch, outputs) -> None:
        self.losses = {k: float(v) for k, v in outputs.items()}


def parameters(runner: Runner) -> dict[str, Tensor]:
    network = getattr(runner.model, 'architecture', runner.model)
    return {n: p.detach().clone() for n, p in network.named_parameters()}


def tiny_runner(campaign: Campaign, name: str, folder: Path) -> Runner:
    """Build an arm's Runner for a few digits; its teachers are in there."""
    arm = campaign.arms[name]
    needs = {
        key: str(folder / needed / 'epoch_1.pth')
        for key, needed in arm.needs.items()
    }
    cfg = read_config(str(arm.config), {**arm.options, **needs})
    cfg.merge_from_dict(
        {
            'work_dir': str(folder / name),
            'experiment_name': f'{folder.name}_{name}_{uuid.uuid4()}',
            'train_cfg.max_epochs': 1,
            'train_cfg.val_interval': 1,
            'param_scheduler.periods': [1],
            'default_hooks.checkpoint.interval': 1,
            'train_dataloader.batch_size': 4,
            'train_dataloader.dataset.indices': 4 * STEPS,
            'val_dataloader.dataset.indices': 8,
        }
    )
    return Runner.from_cfg(cfg)


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Every arm, trained for a few steps on a few digits."""
    folder = tmp_path_factory.mktemp('means')
    campaign = read_campaign(CAMPAIGN)
    watches, after = {}, {}
    for arm in in_order(campaign.arms):
        runner = tiny_runner(campaign, arm.name, folder)
        watches[arm.name] = watch = Watch()
        runner.register_hook(watch)
        runner.train()
        after[arm.name] = parameters(runner)
    return SimpleNamespace(
        campaign=campaign, folder=folder, watches=watches, after=after
    )


@pytest.mark.parametrize('name', ARMS)
def test_an_arm_trains_what_it_should(
    runs: SimpleNamespace, name: str
) -> None:
    before, after = runs.watches[name].before, runs.after[name]
    changed = {
        key for key in after if not torch.equal(after[key], before[key])
    }
    wanted = TRAINED.get(name, STUDENT)
    assert changed == {key for key in after if re.fullmatch(wanted, key)}


@pytest.mark.parametrize('name', ARMS)
def test_an_arm_has_the_losses_of_its_means(
    runs: SimpleNamespace, name: str
) -> None:
    losses = runs.watches[name].losses
    distils = 'model.architecture.type' in runs.campaign.arms[name].options
    soft = SOFT.get(name, {'loss_kl'} if distils else set())
    found = {k for k in losses if k.startswith('distill.')}
    assert found == {f'distill.{loss}' for loss in soft}
    assert ('student.loss' in losses) == distils
    assert ('teacher.loss' in losses) == name.startswith('inplace')
    bad = {k: v for k, v in losses.items() if not -1e-5 < v < 1e4}
    assert not bad


def test_frozen_classifiers_are_whose_they_are_said_to_be(
    runs: SimpleNamespace,
) -> None:
    key = 'head.fc.weight'
    for name, source in (
        ('head_of_teacher', 'teacher_e8'),
        ('head_of_plain', 'plain_elsewhere'),
    ):
        assert torch.equal(runs.after[name][key], runs.after[source][key])
    random = runs.after['head_of_random'][key]
    # Kaiming's: sqrt(2 / inputs); MMPretrain's default would be 0.01.
    assert float(random.std()) == pytest.approx((2 / 16) ** 0.5, rel=0.15)
    # All else starts alike, and not where either classifier was learned.
    first, *others = (
        runs.watches[f'head_of_{one}'].before
        for one in ('teacher', 'plain', 'random')
    )
    body = [key for key in first if not key.startswith('head')]
    for other in others:
        assert all(torch.equal(first[key], other[key]) for key in body)
    for source in ('teacher_e8', 'plain_elsewhere'):
        start = runs.watches[source].before
        assert_other_draws(first, start, body)


def test_a_student_may_begin_elsewhere_than_its_teacher(
    runs: SimpleNamespace,
) -> None:
    teacher = runs.watches['teacher_e8'].before
    same = runs.watches['soft_only'].before
    weights = [key for key in same if '.expand.' not in key]
    assert all(torch.equal(teacher[key], same[key]) for key in weights)
    elsewhere = runs.watches['soft_elsewhere'].before
    assert_other_draws(same, elsewhere, weights)


def assert_other_draws(
    one: dict[str, Tensor], other: dict[str, Tensor], keys: list[str]
) -> None:
    """Check that all drawn values differ, and are spread alike."""
    drawn = [key for key in keys if one[key].dim() > 1]
    assert drawn
    for key in drawn:
        assert not torch.isclose(one[key], other[key]).any(), key
        spread = float(other[key].std() / one[key].std())
        assert 0.7 < spread < 1.4, (key, spread)


def test_what_is_grown_starts_as_the_small_network(
    runs: SimpleNamespace,
) -> None:
    grown, small = runs.watches['grown'].before, runs.after['plain']
    assert all(torch.equal(grown[key], small[key]) for key in small)
    added = grown.keys() - small.keys()
    assert added
    assert all('.expand.' in key for key in added)


def test_third_stages_start_from_the_student_of_soft_labels(
    runs: SimpleNamespace,
) -> None:
    student = runs.after['soft_e8']
    for name in ('soft_again', 'lora_kxk', 'lora_weight', 'lora_1x1'):
        start = runs.watches[name].before
        assert all(torch.equal(start[key], student[key]) for key in student)


def test_one_instance_trains_a_fresh_student_as_two_networks_do(
    runs: SimpleNamespace, tmp_path: Path
) -> None:
    """soft_only and fresh_e8: alike but for what their weights start as."""
    start = runs.watches['soft_only'].before

    class StartAlike(Hook):
        priority = 'LOWEST'

        def before_train(self, runner: Runner) -> None:
            student = runner.model.architecture
            assert not torch.equal(
                student.head.fc.weight, start['head.fc.weight']
            )
            own = dict(student.named_parameters())
            student.load_state_dict({k: start[k] for k in own}, strict=False)

    os.symlink(runs.folder / 'teacher_e8', tmp_path / 'teacher_e8')
    runner = tiny_runner(runs.campaign, 'fresh_e8', tmp_path)
    watch = Watch()
    runner.register_hook(StartAlike())
    runner.register_hook(watch)
    runner.train()
    losses = runs.watches['soft_only'].losses
    assert watch.losses == losses and losses['distill.loss_kl'] > 0
    one = torch.load(runs.folder / 'soft_only' / 'epoch_1.pth')['state_dict']
    two = runner.model.architecture.state_dict()
    assert any('running_var' in key for key in two)
    for key, value in two.items():
        assert torch.equal(value, one[f'architecture.{key}']), key
