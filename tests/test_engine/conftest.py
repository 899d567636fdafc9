# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A small training config, and the training tool refusing one."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAIN = runpy.run_path(str(ROOT / 'tools' / 'train.py'))['main']

CONFIG = """
custom_imports = dict(imports=['reducenet_mm'])
default_scope = 'mmpretrain'
classifier = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=10, mean=[0.], std=[1.]),
    backbone=dict(
        type='ReduceNet',
        depth=8,
        base_channels=4,
        expansion=2,
        in_channels=1,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=16,
        loss=dict(type='CrossEntropyLoss'),
    ),
)
model = {model}
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler'),
    dataset={dataset},
)
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
"""

DIGITS = "dict(type='Digits', split='train', pipeline=[])"

DISTILLATION = """dict(
    _scope_='mmrazor',
    type='SupernetDistill',
    architecture=classifier,
    teacher_ckpt={teacher!r},
)"""

Make = Callable[..., Path]
Refuse = Callable[..., str]


@pytest.fixture
def make_config(tmp_path: Path) -> Make:
    """Write a config of a teacher, a student if ``teacher`` is set, or any."""

    def make(
        teacher: Path | None = None,
        dataset: str = DIGITS,
        model: str = 'classifier',
    ) -> Path:
        if teacher is not None:
            model = DISTILLATION.format(teacher=str(teacher))
        path = tmp_path / 'config.py'
        path.write_text(CONFIG.format(model=model, dataset=dataset))
        return path

    return make


@pytest.fixture
def refuse(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Refuse:
    """Run train.py on a config; return the one line that refuses it."""
    monkeypatch.chdir(tmp_path)  # the default work dir would be made here

    def run(config: Path, *options: str) -> str:
        before = sorted(tmp_path.rglob('*'))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            TRAIN([str(config), *options])
        assert stopped.value.code == 2
        assert sorted(tmp_path.rglob('*')) == before  # nothing was written
        output = capsys.readouterr()
        assert output.out == ''
        line, end = output.err.split('\n')
        assert end == ''
        assert line.startswith('train.py: error: ')
        return line

    return run
