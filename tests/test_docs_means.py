# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The page of means leaves none of the project's means out."""

from pathlib import Path

import pytest

from reducenet_mm.models.layers.lora import LORA_KINDS
from reducenet_mm.models.layers.sequential import STUDENT_CONVS

CONFIGS = Path(__file__).parent.parent / 'configs'
FOLDERS = [
    'reuse',
    'distill',
    'distill/four_stages',
    'schedules',
    'schedules/scaler',
    'inplace',
]


def tables() -> str:
    text = (CONFIGS / 'reducenet/README.md').read_text(encoding='utf-8')
    return '\n'.join(x for x in text.splitlines() if x.startswith('|'))


@pytest.mark.parametrize('folder', FOLDERS)
def test_every_preset_is_in_a_table(folder):
    presets = sorted((CONFIGS / '_base_' / folder).glob('*.py'))
    named = [
        f'`_base_/{folder}/{path.name}`'
        for path in presets
        if not path.name.startswith('sgd_')  # how long, by whatever means
    ]
    assert named
    assert not [name for name in named if name not in tables()]


def test_every_new_convolution_is_in_a_table():
    assert len(STUDENT_CONVS) > 1
    named = [f"student_conv='{value}'" for value in STUDENT_CONVS]
    assert not [name for name in named if name not in tables()]


def test_every_kind_of_lora_is_in_a_table():
    assert len(LORA_KINDS) > 1
    named = [f"backbone.lora=dict(kind='{kind}'" for kind in LORA_KINDS]
    assert not [name for name in named if name not in tables()]
