# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What the campaigns in ``configs/experiments`` plan: arms, costs, images."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from reducenet_mm.engine.config_file import read_config
from reducenet_mm.experiments.campaign.arms import Arm, needed_arms
from reducenet_mm.experiments.campaign.config import Campaign, read_campaign
from reducenet_mm.experiments.campaign.plan import PlannedArm, plan_arms
from tests.tiny_data import use_tiny_data

EXPERIMENTS = Path('configs/experiments')
DIGITS = EXPERIMENTS / 'digits-few/means.py'
CAMPAIGNS = sorted(EXPERIMENTS.glob('[!_]*/means.py'))
FOLDERS = sorted(EXPERIMENTS.glob('[!_]*'))
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


@pytest.mark.parametrize('path', CAMPAIGNS, ids=lambda path: path.parent.name)
def test_every_data_set_has_the_same_arms(path: Path) -> None:
    campaign = read_campaign(path)
    assert list(campaign.arms) == list(read_campaign(DIGITS).arms)
    assert len(campaign.seeds) == 5
    assert campaign.regime == dict(
        control='plain_matched', doubled='plain_double', teacher='teacher_e8'
    )


def campaign_in(folder: Path) -> Campaign:
    names = ('means.py', f'{folder.name}.py')
    (path,) = (folder / name for name in names if (folder / name).is_file())
    return read_campaign(path)


def data_of(arm: Arm) -> tuple[Path, dict]:
    """Return an arm's config, and what it overrides of its loaders."""
    return arm.config, {
        key: value
        for key, value in arm.options.items()
        if key.split('.')[0] in LOADERS
    }


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_all_arms_see_the_same_images_in_the_same_order(folder: Path) -> None:
    """Or differences of arms with the same seed would not be paired."""
    arms = campaign_in(folder).arms.values()
    assert len(arms) >= 6
    different: list[tuple[Path, dict]] = []
    for arm in arms:
        if data_of(arm) not in different:
            different.append(data_of(arm))
    loaders = []
    for config, options in different:
        cfg = read_config(str(config), options).to_dict()
        loaders.append({name: cfg[name] for name in LOADERS})
    assert len(loaders) >= 2
    sampler = loaders[0]['train_dataloader']['sampler']
    assert sampler == dict(type='SeededSampler', shuffle=True)
    for where, other in zip(different, loaders, strict=True):
        assert other == loaders[0], where


def matched_pairs(campaign: Campaign) -> list[tuple[str, str]]:
    """Arms with their plain controls."""
    return [
        (arm.name, arm.control)
        for arm in campaign.arms.values()
        if arm.control in ('plain_matched', 'plain_double')
    ]


@pytest.fixture(scope='module')
def plan() -> dict[str, PlannedArm]:
    """Lengths and costs of some arms, and of what they depend on."""
    campaign = read_campaign(DIGITS)
    names = ['linear', 'learned_mask', 'inplace', 'lora_kxk']
    names += ['sequential_linear', 'plain_matched', 'plain_double']
    wanted = {'soft_e8', *names}
    for name in list(wanted):
        wanted.update(needed_arms(campaign.arms, name))
    arms = {
        name: dataclasses.replace(arm, control=None)
        for name, arm in campaign.arms.items()
        if name in wanted
    }
    return plan_arms(dataclasses.replace(campaign, arms=arms))


def test_costs_by_hand(plan: dict[str, PlannedArm]) -> None:
    cost = {name: arm.cost.per_image for name, arm in plan.items()}
    stem = 64 * 9 * 4  # 8x8 outputs of 4 channels; images need no gradient
    plain = plan['plain_matched'].size.multiply_adds
    teacher = plan['teacher_e8'].size.multiply_adds
    branches = teacher - plain
    assert cost['teacher_e8'] == 3 * teacher - stem
    assert cost['plain_matched'] == 3 * plain - stem
    assert cost['soft_e8'] == cost['plain_matched'] + teacher
    assert cost['inplace'] == cost['plain_matched'] + cost['teacher_e8']
    # In half of the steps there are branches, whose weights do not train.
    assert cost['linear'] == cost['soft_e8'] + 0.5 * 2 * branches
    # Of three, each is there for 2/3 of that on average.
    assert cost['learned_mask'] == pytest.approx(
        cost['soft_e8'] + 0.5 * 2 / 3 * 2 * branches
    )
    # The student trains the teacher's pairs and learns from the teacher.
    pairs = plan['teacher_sequential'].size.multiply_adds
    assert cost['sequential_linear'] == 4 * pairs - stem


def test_arms_cost_what_their_controls_cost(
    plan: dict[str, PlannedArm],
) -> None:
    campaign = read_campaign(DIGITS)
    pairs = matched_pairs(campaign)
    assert ('lora_kxk', 'plain_double') in pairs
    for name, control in pairs:
        arm, times = campaign.arms[name], campaign.arms[control].times
        assert arm.name == 'soft_e8' or arm.match == 'soft_e8'
        assert arm.times == times
    for name, control in pairs:
        if name in plan:
            total = plan[name].total_multiply_adds
            matched = plan[control].total_multiply_adds
            assert total == pytest.approx(matched, rel=0.02)


@pytest.mark.parametrize(
    ('folder', 'images', 'shape'),
    [
        ('fashion-mnist-few', 500, (1, 14, 14)),
        ('fashion-mnist-narrow', 10000, (1, 14, 14)),
        ('fashion-mnist-7x7', 20000, (1, 7, 7)),
        ('cifar10-jpeg-narrow', 40000, (3, 8, 8)),
    ],
)
def test_the_small_images(
    folder: str, images: int, shape: tuple[int, ...], tmp_path: Path
) -> None:
    cfg = Config.fromfile(EXPERIMENTS / folder / 'teacher.py')
    assert cfg.train_dataloader.dataset.train_size == images
    cfg = use_tiny_data(copy.deepcopy(cfg), tmp_path)
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path / 'work'),
            'experiment_name': tmp_path.name,
            'train_cfg.max_epochs': 1,
            'param_scheduler.periods': [1],
        }
    )
    runner = Runner.from_cfg(cfg)
    shapes = {batch['inputs'][0].shape for batch in runner.train_dataloader}
    assert shapes == {shape}
    runner.train()
    runner.test()
    plain = Config.fromfile(EXPERIMENTS / folder / 'plain.py')
    backbone = plain.model.backbone
    supernet = dict(cfg.model.backbone, type='PlainResNet')
    del supernet['expansion'], supernet['block']
    assert backbone == supernet
