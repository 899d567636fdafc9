# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What an arm takes from other config files, and what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reducenet_mm.engine.config_file import read_config
from reducenet_mm.experiments.campaign.config import read_campaign

FILES = {
    'a.py': "model = dict(type='A', width=3, old=dict(x=1))\nhooks = [1]",
    'presets/b.py': (
        "model = dict(type='B', loss=dict(kind='kl', tau=4))\n"
        "loss = dict(kind='l2')\nhook = dict(type='H')\nhooks = [2, 3]\n"
        'none = None'
    ),
    'campaign.py': """
seeds = [0]
cfg_options = {'model.tau': 7}
arms = dict(one=dict(config='a.py', take={
    'model': 'presets/b.py:model',
    'model.inner': 'a.py:model',
    'model.inner.loss': 'presets/b.py:loss',
    'hooks': ['presets/b.py:hooks', 'presets/b.py:hook'],
    'deep.er': 'presets/b.py:model.loss.tau',
}, cfg_options={'model.inner.width': 5}))
""",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / 'presets').mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path / 'campaign.py'


def content_of(source: Path, options: dict[str, Any] | None = None) -> dict:
    arm = read_campaign(source, options).arms['one']
    for _ in range(2):  # options are not used up
        content = read_config(str(arm.config), arm.options).to_dict()
    return content


def test_values_are_taken_whole_and_changed_by_options(source: Path) -> None:
    inner = dict(type='A', width=5, old=dict(x=1), loss=dict(kind='l2'))
    assert content_of(source) == dict(
        model=dict(type='B', loss=dict(kind='kl', tau=4), inner=inner, tau=7),
        hooks=[2, 3, dict(type='H')],
        deep=dict(er=4),
    )


def test_keys_are_dotted_keys(source: Path) -> None:
    source.write_text(FILES['campaign.py'].replace("'hooks':", '1:'))
    with pytest.raises(ValueError, match='`arms.one.take` has the key 1;'):
        read_campaign(source)


def test_what_is_inside_a_taken_value_is_replaced_too(source: Path) -> None:
    content = content_of(
        source, {'arms.one.take': {'model.loss': 'presets/b.py:loss'}}
    )
    assert content['model']['loss'] == dict(kind='l2')  # without its `tau`


@pytest.mark.parametrize(
    ('take', 'error', 'message'),
    [
        ('b.py', ValueError, "`arms.one.take` must be a dict.*'b.py'"),
        (
            {'x': 'presets/b.py'},
            ValueError,
            r"take\['x'\]` must be 'FILE:KEY'",
        ),
        (
            {'x': 'presets/b.py:losses'},
            ValueError,
            r"presets/b.py has no 'losses', but \['hook', 'hooks', 'loss'",
        ),
        ({'x': 'c.py:loss'}, FileNotFoundError, 'c.py.* is not there'),
        (
            {'load_from': 'presets/b.py:none'},
            ValueError,
            'which the campaign decides',
        ),
    ],
)
def test_one_clear_error(
    source: Path, take: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_campaign(source, {'arms.one.take': take})
