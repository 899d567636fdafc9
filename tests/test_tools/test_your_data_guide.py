# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""``docs/your_data.md`` does what it says, on a few images in folders."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmpretrain import ImageClassificationInferencer

from reducenet_mm.engine.preflight import build_model, walk_model
from reducenet_mm.experiments.pipeline.config import (
    CONTROL_KEYS,
    PIPELINE_KEYS,
    STAGE_KEYS,
    read_pipeline,
)
from reducenet_mm.experiments.pipeline.plan import plan_runs
from reducenet_mm.experiments.pipeline.saturation import Until
from reducenet_mm.models import PlainResNet, ReduceNet
from tests.test_tools.test_graft_guide import ROOT, blocks

PAGE = (ROOT / 'docs/your_data.md').read_text(encoding='utf-8')
FILE = re.compile(r'^`(my_\w+\.py)`.*?```python\n(.*?)```', re.S | re.M)
CLASSES = ['daisy', 'rose', 'tulip']
FEW = {
    'cut = dict(': 'cut = dict(num_workers=0, persistent_workers=False, ',
    'test_dataloader = dict(': 'test_dataloader = dict(num_workers=0, '
    'persistent_workers=False, ',
    'val_size=300': 'val_size=3',
    'model = dict(head=dict(': 'model = dict(backbone=dict(base_channels=8), '
    'head=dict(in_channels=64, ',
    'depth=18': 'depth=18, base_channels=8',
}
"""What makes the page's files fit a few images and a test."""
SHORT = [
    '--cfg-options',
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=1',
    'param_scheduler.periods=[1]',
]


def write_images(root: Path) -> None:
    rng = np.random.RandomState(0)
    for part, count in (('train', 4), ('val', 2), ('test', 2)):
        for index, name in enumerate(CLASSES):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                image = rng.randint(0, 128, (48, 64, 3), np.uint8)
                image[..., index] += 120
                path = root / part / name / f'{number}.png'
                assert cv2.imwrite(str(path), image)


def write_files(folder: Path, replaced: dict[str, str]) -> None:
    """Write the page's files beside the project's configs."""
    (folder / 'configs').symlink_to(ROOT / 'configs')
    files = FILE.findall(PAGE)
    assert len(files) == 4
    for name, text in files:
        for old, new in replaced.items():
            text = text.replace(old, new)
        (folder / name).write_text(text)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the files are, for few images, after the commands of a stage."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('guide')
    write_files(folder, FEW)
    write_images(folder / 'data/flowers')
    (commands,) = blocks('shell', PAGE.replace('epoch_30', 'epoch_1'))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in commands.replace('\\\n', ' ').splitlines():
            words = shlex.split(command)
            DefaultScope._instance_dict.clear()  # as a process of its own has
            tool = runpy.run_path(str(ROOT / words[1]))
            tool['main'](words[2:] + SHORT * ('train' in words[1]))
        yield folder


def test_the_configs_build_as_they_stand(tmp_path: Path) -> None:
    write_files(tmp_path, {})
    for name, kind in (('teacher', ReduceNet), ('plain', PlainResNet)):
        cfg = Config.fromfile(tmp_path / f'my_{name}.py')
        model = build_model(cfg, walk_model(cfg), init_weights=False)
        assert isinstance(model.backbone, kind)
        assert model.head.fc.weight.shape == (3, 512)
        assert cfg.train_dataloader.dataset.val_size == 300


def test_a_hook_of_the_teachers_stays_in_the_student(tmp_path: Path) -> None:
    write_files(tmp_path, {})
    with (tmp_path / 'my_teacher.py').open('a') as file:
        file.write("custom_hooks = [dict(type='EMAHook')]\n")
    cfg = Config.fromfile(tmp_path / 'my_student.py')
    kinds = [hook.type for hook in cfg.custom_hooks]
    assert kinds == ['EMAHook', 'SupernetSwitchHook']


def test_a_folder_of_validation_images(folder: Path) -> None:
    teacher, other = blocks('python', PAGE)[:2]
    lines = teacher.splitlines(keepends=True)
    kept = [line for line in lines if 'cut' not in line]
    assert len(kept) == len(lines) - 2
    (folder / 'with_val.py').write_text(''.join(kept) + other)
    cfg = Config.fromfile('with_val.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        train, val = (
            DATASETS.build(cfg[f'{part}_dataloader'].dataset)
            for part in ('train', 'val')
        )
    assert (len(train), len(val)) == (12, 6)
    assert train.CLASSES == val.CLASSES == tuple(CLASSES)
    assert val[0]['inputs'].shape == (3, 224, 224)
    assert val.pipeline.transforms[-2].__class__.__name__ == 'CenterCrop'
    assert cfg.val_dataloader.sampler.shuffle is False


def test_what_is_exported_names_the_classes(folder: Path) -> None:
    classify = ImageClassificationInferencer(
        'student/student.py', pretrained='student/student.pth'
    )
    answer = classify('data/flowers/test/rose/0.png')[0]
    assert answer['pred_class'] in CLASSES
    weights = torch.load('student/student.pth')['state_dict']
    plain = torch.load('work_dirs/my_plain/epoch_1.pth')['state_dict']
    assert weights.keys() == plain.keys()


def test_the_pipeline_is_planned(folder: Path) -> None:
    pipeline = read_pipeline('my_pipeline.py')
    runs = plan_runs(pipeline, folder / 'work_dirs/my_pipeline')
    names = ['teacher', 'student', 'plain', 'plain_restart']
    assert [run.name for run in runs] == names
    teacher, student, plain, restart = runs
    assert teacher.epochs == student.epochs == 30 < plain.epochs
    assert plain.budget_ratio == pytest.approx(1, abs=0.02)
    assert len(restart.periods) == 2


def test_the_keys_of_the_pipeline_are_all_explained() -> None:
    rows = re.findall(r'^\| `(\w+)` \| (.*) \|$', PAGE, re.M)
    keys = PIPELINE_KEYS | STAGE_KEYS | CONTROL_KEYS
    assert {name for name, _ in rows} == keys - {'name', 'config'}
    (until,) = [text for name, text in rows if name == 'until']
    named = set(re.findall(r'(\w+)=', until))
    assert named and named <= {field.name for field in fields(Until)}
