# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Whose turn it is, where a stage has more than one block."""

from __future__ import annotations

import pytest

from reducenet_mm.engine import ScalerScheduleHook
from reducenet_mm.models import ReduceNet

DEPTH = 14  # two blocks in each of the three stages
TOTAL, EPOCH = 60, 10  # iterations; by default the first half is annealed
STAGES = ['layer1', 'layer2', 'layer3']
BLOCKS = [f'{stage}.{i}' for stage in STAGES for i in (0, 1)]
UNITS = {'stage': (STAGES, 10), 'block': (BLOCKS, 5)}
"""Unit -> names, the shallowest first, and iterations of a turn."""
GATES = {
    'postsum': (dict(), ['conv1']),
    'parallel': (
        dict(lora=dict(kind='kxk_1x1', act=True)),
        ['conv1', 'conv1.lora.pair.act'],
    ),
    'sequential': (dict(), ['conv1.pair.act']),
}
"""Block -> settings of it, and what moves in one, by name."""


def student(block='postsum', **settings):
    return ReduceNet(
        DEPTH, base_channels=4, scaler=0.0, block=block, **settings
    )


@pytest.mark.parametrize('block', GATES)
@pytest.mark.parametrize('unit', UNITS)
@pytest.mark.parametrize('order', ['shallowest_first', 'deepest_first'])
def test_stages_and_blocks_take_turns(order, unit, block):
    settings, inside = GATES[block]
    net = student(block, **settings)
    moving = ScalerScheduleHook(order=order, unit=unit).moving(
        net, TOTAL, EPOCH
    )
    names, length = UNITS[unit]
    turns = names if order == 'shallowest_first' else names[::-1]
    assert list(moving) == turns
    for index, (name, (gates, ramp)) in enumerate(moving.items()):
        held = [b for b in BLOCKS if f'{b}.'.startswith(f'{name}.')]
        assert len(held) == (2 if unit == 'stage' else 1)
        assert list(gates) == [f'{b}.{gate}' for b in held for gate in inside]
        for path, gate in gates.items():
            assert gate is net.get_submodule(path)
        begin = index * length
        assert (ramp.begin, ramp.end) == (begin, begin + length)


@pytest.mark.parametrize(
    ('unit', 'values'),
    [
        ('stage', [1, 1, 1, 1, 0.5, 0.5]),
        ('block', [1, 1, 1, 1, 1, 0]),
    ],
)
def test_blocks_of_a_stage_fade_together_or_apart(unit, values):
    """In the midst of the deepest stage's turn, or behind a block's."""
    hook = ScalerScheduleHook(order='deepest_first', unit=unit)
    moving = hook.moving(student(), TOTAL, EPOCH)
    at_5 = {
        path: ramp.value(5)
        for gates, ramp in moving.values()
        for path in gates
    }
    assert [at_5[f'{block}.conv1'] for block in BLOCKS] == values


def test_without_an_order_the_unit_makes_no_difference():
    for unit in UNITS:
        hook = ScalerScheduleHook(unit=unit)
        ((name, (gates, ramp)),) = hook.moving(student(), TOTAL, EPOCH).items()
        assert name == 'all'
        assert list(gates) == [f'{block}.conv1' for block in BLOCKS]
        assert (ramp.begin, ramp.end) == (0, 30)
