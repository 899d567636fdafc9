# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The exported config: what it is made of, and from where it can be read."""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmpretrain import get_model
from mmpretrain.registry import MODELS
from torch import nn

from reducenet_mm.export import student_backbone
from reducenet_mm.export.plain_config import plain_files
from reducenet_mm.export.plain_model import plain_model_cfg


def forget() -> None:
    """Forget the files of exported folders."""
    sys.modules.pop('student_backbone', None)
    for name in ('StudentResNet', 'StudentResNet_CIFAR'):
        cls = getattr(student_backbone, name)
        MODELS.register_module(name, force=True, module=cls)


@pytest.fixture(autouse=True)
def _nothing_loaded() -> Iterator[None]:
    forget()
    yield
    forget()


def write(files: dict[str, str], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding='utf-8')
    return folder / 'student.py'


def backbone_from(config: Path) -> tuple[nn.Module, str]:
    """Return a config's backbone and the file that defines its class."""
    backbone = get_model(str(config)).backbone
    return backbone, inspect.getfile(type(backbone))


@pytest.fixture
def files(classifier_cfg: Callable) -> dict[str, str]:
    """What is written for a small student."""
    return plain_files(Config(dict(model=classifier_cfg())))


def test_the_backbone_is_shipped_as_it_is(files: dict[str, str]) -> None:
    assert list(files) == ['student_backbone.py', 'student.py']
    written = files['student_backbone.py']
    assert written == inspect.getsource(student_backbone)


@pytest.mark.parametrize(
    ('settings', 'name'),
    [
        (dict(depth=8), 'StudentResNet_CIFAR'),
        (dict(depth=20, block='parallel'), 'StudentResNet_CIFAR'),
        (dict(depth=18, act_cfg=dict(type='GELU')), 'StudentResNet'),
        (dict(depth=34, block='sequential'), 'StudentResNet'),
        (dict(depth=34), 'ResNet'),
        (dict(depth=18, act_cfg=dict(type='ReLU')), 'ResNet'),
    ],
)
def test_no_backbone_is_of_this_package(
    settings: dict[str, Any], name: str, classifier_cfg: Callable
) -> None:
    cfg = Config(dict(model=classifier_cfg(**settings)))
    backbone = plain_model_cfg(cfg)['backbone']
    assert backbone['type'] == name
    assert (backbone.get('out_act') is False) == ('block' in settings)
    files = plain_files(cfg)
    assert ('student_backbone.py' in files) == (name != 'ResNet')
    assert ('__import__' in files['student.py']) == (name != 'ResNet')


def test_a_stock_backbones_config_warns_of_other_checkpoints(
    classifier_cfg: Callable, files: dict[str, str]
) -> None:
    cfg = classifier_cfg(depth=18)
    text = plain_files(Config(dict(model=cfg)))['student.py']
    comments = [line[2:] for line in text.splitlines() if line[:2] == '# ']
    assert 'it would load nothing of it' in ' '.join(comments)
    assert 'load nothing' not in files['student.py']


@pytest.mark.parametrize('depth', [8, 18])
def test_a_folded_student_has_a_config_of_its_own(
    depth: int, classifier_cfg: Callable, tmp_path: Path
) -> None:
    cfg = Config(dict(model=classifier_cfg(depth=depth)))
    files = plain_files(cfg, '# header\n', folded=True)
    assert list(files) == ['student_backbone.py', 'student_folded.py']
    write(files, tmp_path)
    backbone, _ = backbone_from(tmp_path / 'student_folded.py')
    assert backbone.conv1.bias is not None
    assert not [key for key in backbone.state_dict() if 'bn' in key]
    assert files['student_folded.py'].startswith('# header\n')


@pytest.mark.parametrize(
    'norm_cfg',
    [
        dict(type='GN', num_groups=2),
        dict(type='BN', track_running_stats=False),
    ],
)
def test_norms_that_cannot_be_folded_are_refused(
    norm_cfg: dict[str, Any], classifier_cfg: Callable
) -> None:
    cfg = Config(dict(model=classifier_cfg(norm_cfg=norm_cfg)))
    assert plain_model_cfg(cfg)['backbone']['norm_cfg'] == norm_cfg
    with pytest.raises(ValueError, match='model.backbone.norm_cfg='):
        plain_model_cfg(cfg, folded=True)


def test_a_reducenet_in_a_detector_is_refused(
    classifier_cfg: Callable,
) -> None:
    model = dict(classifier_cfg(), type='RetinaNet')
    del model['_scope_']
    cfg = Config(dict(default_scope='mmdet', model=model))
    with pytest.raises(ValueError, match="a network of 'mmdet'.*GraftedB"):
        plain_model_cfg(cfg)


@pytest.mark.parametrize(
    'folder', ['plain', 'two words', "it's", 'größe', 'v1.0', 'a/b']
)
@pytest.mark.parametrize('how', ['absolute', 'relative', 'in the folder'])
def test_it_is_read_from_anywhere(
    folder: str,
    how: str,
    files: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = write(files, tmp_path / folder)
    (tmp_path / 'elsewhere').mkdir()
    cwd = config.parent if how == 'in the folder' else tmp_path / 'elsewhere'
    monkeypatch.chdir(cwd)
    path = config if how == 'absolute' else Path(os.path.relpath(config, cwd))
    before = list(sys.path)
    backbone, file = backbone_from(path)
    assert backbone.depth == 8
    assert Path(file) == config.parent / 'student_backbone.py'
    assert sys.path == before


@pytest.mark.parametrize('folder', [r'C:\new\user', 'C:/new/user', "it's"])
def test_any_systems_folder_can_stand_in_it(
    folder: str, files: dict[str, str]
) -> None:
    text = files['student.py'].replace('{{ fileDirname }}', folder)
    values = [
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant)
    ]
    assert values.count(folder) == 2


def test_every_folder_uses_its_own_backbone(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / 'old', tmp_path / 'new'
    text = re.sub(r'base_channels=4,\s*', '', files['student.py'])
    assert text != files['student.py']
    files['student.py'] = text
    write(files, new)
    files['student_backbone.py'] = files['student_backbone.py'].replace(
        'default_width: ClassVar[int] = 16', 'default_width: ClassVar[int] = 4'
    )
    write(files, old)
    other = tmp_path / 'cwd'  # where a third file of that name lies about
    write({'student_backbone.py': 'raise RuntimeError'}, other)
    monkeypatch.chdir(other)
    monkeypatch.syspath_prepend(str(other))
    models = []
    for folder, width in ((old, 4), (new, 16), (old, 4)):
        backbone, file = backbone_from(folder / 'student.py')
        models.append(backbone)
        assert Path(file) == folder / 'student_backbone.py'
        assert backbone.conv1.out_channels == width
    for model, width in zip(models, (4, 16, 4), strict=True):
        out = model(torch.randn(2, 3, 8, 8))[-1]  # also the earlier ones
        assert out.shape == (2, 4 * width, 2, 2)


def test_without_the_file_the_error_names_it(
    files: dict[str, str], tmp_path: Path
) -> None:
    config = write(files, tmp_path)
    get_model(str(config))  # loaded from another folder: does not help
    (tmp_path / 'student_backbone.py').unlink()
    before = list(sys.path)
    with pytest.raises(ModuleNotFoundError, match='student_backbone'):
        get_model(str(config))
    assert sys.path == before


def test_a_dumped_copy_needs_the_folder_on_the_path(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(files, tmp_path / 'out')
    dumped = tmp_path / 'work_dir' / 'student.py'
    dumped.parent.mkdir()
    Config.fromfile(config).dump(dumped)
    get_model(str(dumped))  # in the same process, as a Runner does
    sys.modules.pop('student_backbone')
    with pytest.raises(ImportError, match='(?s)student_backbone.*PYTHONPATH'):
        Config.fromfile(dumped)
    monkeypatch.syspath_prepend(str(config.parent))
    backbone, file = backbone_from(dumped)
    assert Path(file) == config.parent / 'student_backbone.py'


def test_another_config_can_inherit_from_it(
    files: dict[str, str], tmp_path: Path
) -> None:
    write(files, tmp_path / 'out')
    mine = tmp_path / 'mine.py'
    mine.write_text(
        "_base_ = ['out/student.py']\n"
        'model = dict(backbone=dict(frozen_stages=2))\n'
    )
    backbone, file = backbone_from(mine)
    assert Path(file) == tmp_path / 'out' / 'student_backbone.py'
    assert backbone.frozen_stages == 2
    assert backbone.base_channels == 4
