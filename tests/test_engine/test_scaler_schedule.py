# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Values of the scaler by hand, and schedules that make no sense."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from reducenet_mm.engine import ScalerScheduleHook
from reducenet_mm.engine.scaler_schedule import Ramp, ScalerSchedule, unit_of
from reducenet_mm.registry import HOOKS

PRESETS = sorted(Path('configs/_base_/schedules/scaler').glob('*.py'))

DROP = (2 - math.sqrt(2)) / 4  # (1 + cos(3/4 pi)) / 2
SHAPES: dict[str, tuple[dict, list[float]]] = {
    'linear': (dict(shape='linear'), [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]),
    'cosine': (dict(shape='cosine'), [1, 1, 1, 1 - DROP, 0.5, DROP, 0, 0]),
    'one step': (dict(shape='step', steps=1), [1, 1, 1, 1, 1, 1, 0, 0]),
    'steps': (dict(shape='step', steps=2), [1, 1, 1, 1, 0.5, 0.5, 0, 0]),
    'start': (dict(start=0.8), [0.8, 0.8, 0.8, 0.6, 0.4, 0.2, 0, 0]),
}


def schedule(**settings: Any) -> ScalerSchedule:
    return ScalerScheduleHook(**settings).schedule


def values(ramp: Ramp, iterations: int) -> list[float]:
    return [ramp.value(i) for i in range(iterations)]


@pytest.mark.parametrize('name', SHAPES)
def test_values_at_every_iteration(name):
    settings, expected = SHAPES[name]
    plan = schedule(begin=2, end=6, by_epoch=False, **settings)
    (ramp,) = plan.ramps(['all'], total=8, epoch_length=None).values()
    assert values(ramp, 8) == pytest.approx(expected, abs=1e-12)
    assert values(ramp, 8)[-2:] == [0.0, 0.0]  # exactly


def test_steps_that_do_not_divide_the_time_drop_where_they_should():
    ramp = Ramp(0, 7, shape='step', steps=3)
    # drops at 7/3 and 14/3
    thirds = [3, 3, 3, 2, 2, 1, 1, 0]
    assert values(ramp, 8) == pytest.approx([k / 3 for k in thirds])


@pytest.mark.parametrize(
    ('order', 'names'),
    [('deepest_first', ['c', 'b', 'a']), ('shallowest_first', list('abc'))],
)
def test_units_take_turns(order, names):
    plan = schedule(begin=1, end=11, by_epoch=False, order=order)
    ramps = plan.ramps(['a', 'b', 'c'], total=12, epoch_length=None)
    assert list(ramps) == names
    first, second, third = (values(ramp, 12) for ramp in ramps.values())
    ones = [1.0] * 12
    assert first == pytest.approx([1, 1, 2 / 3, 1 / 3, *[0] * 8])
    assert second == pytest.approx([*ones[:5], 2 / 3, 1 / 3, *[0] * 5])
    assert third == pytest.approx([*ones[:8], 0.75, 0.5, 0.25, 0])


@pytest.mark.parametrize(
    ('settings', 'window'),
    [
        (dict(), (0, 10)),
        (dict(begin=1), (5, 10)),
        (dict(begin=1, end=3), (5, 15)),
        (dict(end=3), (0, 15)),
        (dict(begin=1, end=3, by_epoch=False), (1, 3)),
    ],
)
def test_times_are_epochs_or_iterations(settings, window):
    plan = schedule(**settings)
    ramp = plan.ramps(['all'], total=20, epoch_length=5)['all']
    assert (ramp.begin, ramp.end) == window


def test_gates_belong_to_the_block_and_stage_of_their_host():
    hosts = ['backbone.layer1.0.conv1', 'backbone.layer1.0.conv10']
    for gate in (hosts[0], f'{hosts[0]}.lora.pair.act'):
        assert unit_of(gate, hosts, 'block') == 'backbone.layer1.0'
        assert unit_of(gate, hosts, 'stage') == 'backbone.layer1'
    assert unit_of('head.act', hosts, 'block') == 'head'


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(begin=-1), r'begin must be an integer >= 0, got -1'),
        (dict(begin=0.5), r'begin must be an integer >= 0, got 0.5'),
        (dict(end=True), r'end must be an integer, or None, got True'),
        (dict(begin=3, end=3), 'end > begin.*at once, leave the hook out'),
        (dict(start=0), r'start must be a number in \(0, 1\], got 0'),
        (dict(start=1.1), r'start must be .* got 1.1'),
        (dict(shape='sine'), "shape must be one of .* got 'sine'"),
        (dict(shape='step'), 'steps must be the number of drops.* got None'),
        (dict(shape='step', steps=0), 'steps must be .* got 0'),
        (dict(steps=2), "steps=2 is for shape='step' only.*'linear'"),
        (dict(order='random'), "order must be one of .* got 'random'"),
        (dict(unit='layer'), "unit must be one of .* got 'layer'"),
        (dict(by_epoch=None), 'by_epoch must be one of .* got None'),
        (dict(gates='expand'), "gates must be a list of .* got 'expand'"),
        (dict(gates=[]), r'gates must be a list of .* got \[\]'),
        (dict(gates=['lora']), r"gates must be a list of .* got \['lora'\]"),
    ],
)
def test_wrong_arguments_are_refused(settings, message):
    with pytest.raises(ValueError, match=f'ScalerScheduleHook.*{message}'):
        ScalerScheduleHook(**settings)


@pytest.mark.parametrize(
    ('settings', 'epoch_length', 'message'),
    [
        (dict(end=5), 5, 'iteration 0 to 25 of a training of 20'),
        (dict(end=4), 5, 'iteration 0 to 20 of .*at scaler 0, trains too'),
        (dict(begin=2), 5, 'iteration 10 to 10 of'),
        (dict(end=21, by_epoch=False), 5, 'iteration 0 to 21 of'),
        (dict(end=2), None, 'counts epochs, and this training has none'),
        (
            dict(end=2, by_epoch=False, order='deepest_first'),
            5,
            'has 3 of them to take turns in 2 iterations',
        ),
    ],
)
def test_schedules_that_do_not_fit_are_refused(
    settings, epoch_length, message
):
    with pytest.raises(ValueError, match=message):
        schedule(**settings).ramps(['a', 'b', 'c'], 20, epoch_length)


def test_an_order_of_one_is_refused():
    plan = schedule(order='shallowest_first', unit='stage')
    with pytest.raises(ValueError, match="unit='stage' has 1 of them"):
        plan.ramps(['layer1'], total=20, epoch_length=5)


@pytest.mark.parametrize('path', PRESETS, ids=lambda path: path.stem)
def test_presets_fit_any_training(path):
    hook = HOOKS.build(Config.fromfile(path).scaler_schedule)
    units = ['a', 'b', 'c'] if hook.schedule.order else ['all']
    ramps = hook.schedule.ramps(units, total=7, epoch_length=7)
    faded = {unit: [ramps[unit].value(i) for i in range(7)] for unit in ramps}
    assert {tuple(values[3:]) for values in faded.values()} == {(0, 0, 0, 0)}
    expected = {
        'linear': dict(all=[1, 2 / 3, 1 / 3]),
        'lora_activation': dict(all=[1, 2 / 3, 1 / 3]),
        'cosine': dict(all=[1, 0.75, 0.25]),
        'step': dict(all=[1, 0.8, 0.4]),
        'deepest_first': dict(c=[1, 0, 0], b=[1, 1, 0], a=[1, 1, 1]),
        'shallowest_first': dict(a=[1, 0, 0], b=[1, 1, 0], c=[1, 1, 1]),
    }
    assert list(faded) == list(expected[path.stem])
    for unit, values in expected[path.stem].items():
        assert faded[unit][:3] == pytest.approx(values)


def test_there_is_a_preset_for_every_way():
    assert {path.stem for path in PRESETS} == {
        *('linear', 'cosine', 'step', 'lora_activation'),
        *('deepest_first', 'shallowest_first'),
    }
