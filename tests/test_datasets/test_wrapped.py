# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Configs of data sets inside others are found, in order."""

from __future__ import annotations

from mmengine.config import ConfigDict

from reducenet_mm.datasets.wrapped import innermost


def test_a_data_set_that_wraps_none_is_itself_the_innermost() -> None:
    dataset = dict(type='Digits', datasets=[])
    assert innermost(dataset)[0] is dataset
    assert innermost({}) == [{}]


def test_wrappers_of_one_and_of_several_are_gone_through_in_order() -> None:
    first, second, third = (dict(type=name) for name in 'ABC')
    several = dict(type='ConcatDataset', datasets=[dict(dataset=first), third])
    outer = dict(
        type='ConcatDataset',
        datasets=[dict(type='RepeatDataset', dataset=second), several],
    )
    leaves = innermost(dict(type='HoldoutSplit', dataset=outer))
    assert [leaf['type'] for leaf in leaves] == ['B', 'A', 'C']
    assert leaves[0] is second and leaves[2] is third


def test_what_is_found_can_be_changed_in_the_config() -> None:
    config = ConfigDict(dataset=dict(type='HoldoutSplit', dataset=dict(a=1)))
    innermost(config)[0]['a'] = 2
    assert config.dataset.dataset.a == 2
