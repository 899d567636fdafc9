# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What a campaign config says, and one clear error for what it must not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reducenet_mm.experiments.campaign.arms import in_order, needed_arms
from reducenet_mm.experiments.campaign.config import read_campaign

TEXT = """
seeds = [0, 1]
cfg_options = dict(train_dataloader=dict(batch_size=32))
arms = dict(
    plain=dict(config='a.py', match='last', restart_after='teacher'),
    last=dict(
        config='a.py', epochs=2, control='plain',
        needs={'model.teacher_ckpt': 'teacher', 'model.student_init': 'soft'}),
    soft=dict(config='a.py', needs={'model.teacher_ckpt': 'teacher'}),
    teacher=dict(config='a.py', cfg_options={'model.x': 1}),
)
comparisons = [('last', 'soft')]
regime = dict(control='plain', teacher='teacher')
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / 'a.py').write_text('')
    path = tmp_path / 'campaign.py'
    path.write_text(TEXT)
    return path


def test_a_config_is_read(source: Path) -> None:
    campaign = read_campaign(source, {'arms.soft.epochs': 7})
    assert campaign.seeds == (0, 1)
    assert list(campaign.arms) == ['plain', 'last', 'soft', 'teacher']
    assert campaign.arms['soft'].epochs == 7
    assert campaign.arms['teacher'].options == {
        'train_dataloader.batch_size': 32,
        'model.x': 1,
    }
    assert campaign.arms['teacher'].config == source.parent / 'a.py'
    assert campaign.comparisons == (('last', 'plain'), ('last', 'soft'))
    assert campaign.metric == 'accuracy/top1'
    assert campaign.threads == 1


def test_arms_come_after_what_they_depend_on(source: Path) -> None:
    arms = read_campaign(source).arms
    names = [arm.name for arm in in_order(arms)]
    assert names == ['teacher', 'soft', 'last', 'plain']
    assert needed_arms(arms, 'last') == ['teacher', 'soft']
    assert needed_arms(arms, 'plain') == []


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'sedes': [0]}, r"unknown keys \['sedes'\]"),
        ({'seeds': []}, '`seeds` must be a list of at least one integer'),
        ({'seeds': [1, 1]}, 'one more than once'),
        ({'seeds': [0, -1]}, r'`seeds\[1\]` must be an integer >= 0'),
        ({'seeds': [2**32]}, r'must be an integer <= 4294967295, got'),
        ({'arms.soft.epoch': 1}, r"`arms.soft` has unknown keys \['epoch'\]"),
        ({'arms.soft.epochs': 0}, '`arms.soft.epochs` must be an integer'),
        ({'arms.plain.epochs': 3}, 'sets both `epochs`=3 and `match`'),
        ({'arms.soft.times': 2}, '`arms.soft.times`=2 needs'),
        (
            {'arms.plain.budget': 1e9},
            r"sets both `budget`=1000000000\.0 and `match`='",
        ),
        ({'arms.soft.budget': -1}, '`arms.soft.budget` must be a positive'),
        ({'arms.plain.times': 0}, '`arms.plain.times` must be a positive'),
        ({'arms.plain.match': ['soft']}, r"must name an arm.*\['soft'\]"),
        ({'arms.plain.match': 'lost'}, '`arms.plain.match` must name an arm'),
        ({'arms.soft.control': 'x'}, '`arms.soft.control` must name an arm'),
        (
            {'arms.soft.needs': {'load_from': 'nobody'}},
            r"`arms.soft.needs\['load_from'\]` must name an arm.*'nobody'",
        ),
        (
            {'arms.teacher.needs': {'load_from': 'last'}},
            r"\['last', 'plain', 'soft', 'teacher'\] depend on one another",
        ),
        (
            {'arms.teacher.cfg_options': {'randomness.seed': 1}},
            r"sets \['randomness.seed'\], which the campaign decides",
        ),
        ({'regime.plain': 'plain'}, '`regime` has unknown keys'),
        ({'regime.teacher': 'x'}, '`regime.teacher` must name an arm'),
        ({'comparisons': ['last']}, r'`comparisons\[0\]` must be a pair'),
        ({'comparisons': [('last', 'plain')]}, 'more than once'),
        ({'later_comparisons': [('last', 'soft')]}, 'more than once'),
        ({'later_comparisons': 'last'}, '`later_comparisons` must be a list'),
        ({'arms.a-b': dict(config='a.py')}, "an arm's name is letters"),
        ({'cfg_options': ['a=1']}, "`cfg_options` must be a dict.*'a=1'"),
        ({'arms.soft.needs': ['t']}, '`arms.soft.needs` must be a dict'),
        (
            {'arms.soft.cfg_options': ['a=1']},
            '`arms.soft.cfg_options` must be a dict',
        ),
        ({'regime': ['last']}, '`regime` must be a dict'),
        ({'arms.soft.config': None}, '`arms.soft.config` must be a string'),
    ],
)
def test_one_clear_error(
    source: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_campaign(source, options)


def test_missing_files_are_named(source: Path) -> None:
    with pytest.raises(FileNotFoundError, match="'nowhere.py' is not there"):
        read_campaign('nowhere.py')
    with pytest.raises(FileNotFoundError, match="`arms.soft.config`='b.py'"):
        read_campaign(source, {'arms.soft.config': 'b.py'})


def test_a_campaign_has_arms_and_a_control_of_its_regime(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'campaign.py'
    path.write_text('seeds = [0]\narms = dict()\n')
    with pytest.raises(ValueError, match='at least one arm'):
        read_campaign(path)
    (tmp_path / 'a.py').write_text('')
    path.write_text(
        "seeds = [0]\narms = dict(a=dict(config='a.py'))\n"
        "regime = dict(teacher='a')\n"
    )
    with pytest.raises(ValueError, match='`regime.control` is not set'):
        read_campaign(path)
