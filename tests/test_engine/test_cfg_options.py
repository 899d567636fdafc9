# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What ``--cfg-options`` makes of what is typed."""

from __future__ import annotations

import argparse

import pytest

from reducenet_mm.engine.cfg_options import CfgOptions


def parse(*options: str) -> dict:
    parser = argparse.ArgumentParser(prog='tool.py')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions)
    return parser.parse_args(['--cfg-options', *options]).cfg_options


@pytest.mark.parametrize(
    ('typed', 'value'),
    [
        ('a b/c d.pth', 'a b/c d.pth'),
        ("'a b'", 'a b'),
        ('x=1', 'x=1'),
        ('', ''),
        (' 3', 3),
        ('1e-3', 0.001),
        ('True', True),
        ('None', None),
        ('1,2', [1, 2]),
        ('[a, (1, b)]', ['a', (1, 'b')]),
        ('[]', []),
    ],
)
def test_values(typed: str, value: object) -> None:
    assert parse(f'one.key={typed}', 'other=1') == {
        'one.key': value,
        'other': 1,
    }


@pytest.mark.parametrize(
    ('typed', 'reason'),
    [
        ('foo', "--cfg-options: 'foo' is not KEY=VALUE"),
        ('=3', "--cfg-options: '=3' is not KEY=VALUE"),
        ('a=[1,2', 'Imbalanced brackets exist in [1,2. Close'),
    ],
)
def test_what_is_none_is_an_error(typed: str, reason: str, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(typed)
    assert stopped.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('tool.py: error: ') and reason in error
