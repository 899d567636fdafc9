# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The page of means leaves none of the project's means out."""

import json
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from reducenet_mm.models import ReduceNet
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


def page() -> str:
    return (CONFIGS / 'reducenet/README.md').read_text(encoding='utf-8')


def tables() -> str:
    text = page()
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


def test_both_settings_are_explained_as_the_columns_name_them():
    header = next(x for x in page().splitlines() if x.startswith('| when |'))
    columns = [cell.strip() for cell in header.split('|')[-3:-1]]
    words = ' '.join(page().split())
    for column in columns:
        assert f'*{column.capitalize()}*: ' in words


def test_what_is_left_after_the_adjustment_is_named():
    rows = [line.split('|') for line in tables().splitlines()]
    arms = {row[4].strip() for row in rows if len(row) == 8}
    left = {}
    for name in ('fashion-mnist-few', 'cifar10-jpeg-narrow'):
        path = CONFIGS.parent / 'docs/results' / name / 'report.json'
        left[name] = [
            one['arm']
            for one in json.loads(path.read_text())['comparisons']
            if one['arm'] in arms
            and one['control'] in ('plain_matched', 'plain_double')
            and (one['p_holm'] or 1) < 0.05
        ]
    assert left['fashion-mnist-few'] == []
    words = ' '.join(page().split())
    said = re.search(
        r'of the verdicts below, only those of ([\w, ]+) where the teacher is '
        r'clearly better are left',
        words,
    )
    assert said is not None
    named = re.findall(r'\w+', said[1].replace(' and ', ', '))
    assert sorted(named) == sorted(left['cifar10-jpeg-narrow'])


def test_learning_rates_of_the_page_are_those_of_an_optimizer():
    paramwise = re.search(r'`paramwise_cfg=(dict\(roles=.+?\)\))`', page())
    assert paramwise is not None
    text = f'roles_of_the_page = {paramwise[1]}'
    setting = Config.fromstring(text, '.py')
    model = nn.ModuleDict(
        dict(
            backbone=ReduceNet(8, base_channels=4, expansion=1),
            head=nn.Linear(16, 10),
        )
    )
    cfg = Config.fromfile(CONFIGS / '_base_/distill/soft_labels.py')
    optim = build_optim_wrapper(
        model,
        dict(
            cfg.student_optim_wrapper,
            optimizer=dict(type='SGD', lr=1.0),
            paramwise_cfg=setting.roles_of_the_page,
        ),
    )
    names = {id(param): name for name, param in model.named_parameters()}
    rates: dict[float, set[str]] = {}
    for group in optim.optimizer.param_groups:
        (param,) = group['params']
        name = names[id(param)]
        part = 'conv1' if name.endswith('.0.conv1.weight') else 'backbone'
        if '.layer' not in name:
            part = 'head' if name.startswith('head.') else 'stem'
        rates.setdefault(group['lr'], set()).add(part)
    assert rates == {
        0.1: {'stem'},
        2.0: {'conv1'},
        1.0: {'backbone', 'head'},
    }
