# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Wrong input is reported before anything is written.

Through the training tool, as a user does it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from reducenet_mm.engine import preflight

Make = Callable[..., Path]
Refuse = Callable[..., str]


@pytest.mark.parametrize(
    ('option', 'parts'),
    [
        (
            'block=postsun',
            ['model.backbone', "unknown block 'postsun'", 'postsum'],
        ),
        ('depth=21', ['model.backbone', '6n+2', '21', 'backbone.depth']),
        ('expansion=0', ['model.backbone', 'expansion', '0']),
        ('scaler=1.5', ['model.backbone', 'scaler', '[0, 1]', '1.5']),
        ('scaler=-1', ['model.backbone', 'scaler', '[0, 1]', '-1']),
        (
            'expanson=4',
            [
                'model.backbone.expanson=4',
                "Did you mean 'expansion'?",
                'ReduceNet takes: act_cfg, base_channels, block,',
            ],
        ),
        (
            'type=ReducNet',
            ["model.backbone.type='ReducNet'", "Did you mean 'ReduceNet'?"],
        ),
    ],
)
@pytest.mark.parametrize('where', ['model', 'model.architecture'])
def test_bad_backbone_settings(make_config, refuse, where, option, parts):
    teacher = None if where == 'model' else Path('unused')
    line = refuse(
        make_config(teacher),
        '--cfg-options',
        f'{where}.backbone.{option}',
    )
    for part in parts:
        assert part.replace('model.', f'{where}.', 1) in line


def test_a_typo_in_an_architecture_without_a_scope(make_config, refuse):
    path = make_config(teacher=Path('none.pth'))
    text = path.read_text().replace("    _scope_='mmpretrain',\n", '', 1)
    path.write_text(text.replace("'ReduceNet'", "'ReducNet'"))
    line = refuse(path)
    assert "model.architecture.backbone.type='ReducNet'" in line
    assert "in scope 'mmpretrain'. Did you mean 'ReduceNet'?" in line


@pytest.mark.parametrize(
    ('option', 'parts'),
    [
        ('head.topkk=1', ['model.head.topkk=1', "'topk'", 'num_classes']),
        ('head.loss.wait=1', ['model.head.loss.wait=1', 'CrossEntropyLoss']),
        ('hed.topk=1', ['model.hed=', "Did you mean 'head'?"]),
        ('head.num_classes=-1', ['model.head: ', 'num_classes=-1']),
    ],
)
def test_bad_settings_elsewhere_in_the_model(
    make_config, refuse, option, parts
):
    line = refuse(make_config(), '--cfg-options', f'model.{option}')
    for part in parts:
        assert part in line


def test_arguments_of_mmrazors_algorithm_have_become_others(
    make_config, refuse
):
    path = make_config(teacher=Path('none.pth'))
    option = 'model.calculate_student_loss=False'
    line = refuse(path, '--cfg-options', option)
    assert "Instead, set loss_weight=0 in the head's loss. Sup" in line


class Plant:
    """Pickles as a call that leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.path,)


@pytest.fixture
def save_teacher(tmp_path: Path, make_config: Make) -> Callable[..., Path]:
    """Save a fresh teacher's checkpoint."""

    def save(*, prefix: str = '', extra: Any = None, **backbone: Any) -> Path:
        cfg = Config.fromfile(make_config()).model
        cfg.backbone.update(backbone)
        cfg.head.in_channels = 4 * cfg.backbone.base_channels
        state = MODELS.build(cfg).state_dict()
        state = {f'{prefix}{key}': value for key, value in state.items()}
        path = tmp_path / 'teacher.pth'
        torch.save(dict(state_dict=state, meta=extra), path)
        return path

    return save


def test_a_good_teacher_checkpoint_passes(make_config, save_teacher):
    cfg = Config.fromfile(make_config(save_teacher()))
    model = preflight.check_config(cfg, [], init_weights=True)
    expected = torch.load(cfg.model.teacher_ckpt)['state_dict']
    torch.testing.assert_close(model.architecture.state_dict(), expected)


def test_teacher_checkpoint_missing(make_config, refuse, tmp_path):
    line = refuse(make_config(tmp_path / 'teacher.pth'))
    assert 'model.teacher_ckpt' in line
    assert str(tmp_path / 'teacher.pth') in line
    assert 'does not exist' in line


def test_teacher_checkpoint_truncated(make_config, refuse, save_teacher):
    teacher = save_teacher()
    teacher.write_bytes(teacher.read_bytes()[:-1000])
    line = refuse(make_config(teacher))
    assert 'model.teacher_ckpt' in line
    assert str(teacher) in line
    assert 'truncated' in line


def test_teacher_checkpoint_of_another_width(
    make_config, refuse, save_teacher
):
    line = refuse(make_config(save_teacher(base_channels=8)))
    assert 'model.teacher_ckpt' in line
    assert 'width (such as `base_channels`)' in line
    assert '(8, 1, 3, 3) instead of (4, 1, 3, 3)' in line


def test_teacher_checkpoint_of_a_distillation(
    make_config, refuse, save_teacher
):
    line = refuse(make_config(save_teacher(prefix='architecture.')))
    assert 'model.teacher_ckpt' in line
    assert 'distillation checkpoint' in line


def test_teacher_checkpoint_holding_code(
    make_config, refuse, save_teacher, tmp_path
):
    planted = tmp_path / 'planted'
    line = refuse(make_config(save_teacher(extra=Plant(planted))))
    assert 'model.teacher_ckpt' in line
    assert 'mkdir' in line
    assert 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' in line
    assert not planted.exists()


FOLDER = """dict(
    type='HoldoutSplit',
    part='train',
    val_size=1,
    dataset=dict(
        type='CustomDataset',
        data_root={root!r},
        data_prefix={prefix!r},
        ann_file={ann_file!r},
        pipeline=[],
    ),
)"""


@pytest.mark.parametrize(
    ('there', 'key', 'value', 'path'),
    [
        ([], 'data_root', 'data', 'data'),
        (['data'], 'data_prefix', 'train', 'data/train'),
        (['data/train'], 'ann_file', 'list.txt', 'data/list.txt'),
    ],
)
def test_data_not_there(
    make_config, refuse, tmp_path, there, key, value, path
):
    for folder in there:
        (tmp_path / folder).mkdir(parents=True)
    dataset = FOLDER.format(root='data', prefix='train', ann_file='list.txt')
    line = refuse(make_config(dataset=dataset))
    assert f'train_dataloader.dataset.dataset.{key}={value!r}' in line
    assert f"'{path}' is not there" in line


def test_config_file_not_there(refuse, tmp_path):
    assert 'none.py' in refuse(tmp_path / 'none.py')


def test_section_not_there(make_config, refuse):
    config = make_config()
    config.write_text(config.read_text().replace('train_cfg', 'train_config'))
    line = refuse(config)
    assert 'does not set train_cfg' in line
    assert str(config) in line
