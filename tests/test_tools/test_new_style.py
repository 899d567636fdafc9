# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""MMEngine's new-style configs, whose types are classes, with our tools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS

TEACHER = """
from mmengine.dataset import DefaultSampler
from mmengine.optim import OptimWrapper
from mmpretrain.datasets import PackInputs
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import (
    ClsDataPreprocessor,
    CrossEntropyLoss,
    GlobalAveragePooling,
    ImageClassifier,
    LinearClsHead,
)
from torch.nn import BatchNorm2d
from torch.optim import SGD

from reducenet_mm.datasets import Digits
from reducenet_mm.models import ReduceNet

default_scope = 'mmpretrain'
data_preprocessor = dict(
    type=ClsDataPreprocessor, num_classes=10, mean=[77.81], std=[95.90]
)
model = dict(
    type=ImageClassifier,
    backbone=dict(
        type=ReduceNet,
        depth=8,
        base_channels=4,
        expansion=2,
        in_channels=1,
        norm_cfg=dict(type=BatchNorm2d),
    ),
    neck=dict(type=GlobalAveragePooling),
    head=dict(
        type=LinearClsHead,
        num_classes=10,
        in_channels=16,
        loss=dict(type=CrossEntropyLoss),
    ),
)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(
        type=Digits,
        split='train',
        indices=64,
        pipeline=[dict(type=PackInputs)],
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=Digits,
        split='val',
        indices=64,
        pipeline=[dict(type=PackInputs)],
    ),
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type=Accuracy, topk=(1,))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = test_cfg = dict()
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.05))
"""

STUDENT = """
from mmengine.config import read_base

with read_base():
    from .teacher import *

from reducenet_mm.models.algorithms import SupernetDistill

model = dict(
    type=SupernetDistill,
    architecture=model,
    teacher_ckpt='{checkpoint}',
    norm_stats='live',
)
"""


def test_students_of_new_style_configs_are_trained_and_exported(
    tmp_path: Path, load_tool: Callable
) -> None:
    checkpoint = tmp_path / 'teacher' / 'epoch_1.pth'
    texts = dict(
        teacher=TEACHER, student=STUDENT.format(checkpoint=checkpoint)
    )
    for stage, text in texts.items():
        config, run = tmp_path / f'{stage}.py', tmp_path / stage
        config.write_text(text)
        load_tool('train').main([str(config), '--work-dir', str(run)])
        trained = torch.load(run / 'epoch_1.pth', weights_only=False)
        out = tmp_path / f'{stage}_out'
        arguments = [str(config), str(run / 'epoch_1.pth'), '--fold-bn']
        load_tool('export').main([*arguments, '--out', str(out)])
        check_written(out, trained['state_dict'])


def check_written(out: Path, trained: dict[str, torch.Tensor]) -> None:
    """Check that the weights are the student's, with a config of names."""
    prefix = 'architecture.' * any('architecture.' in key for key in trained)
    saved = torch.load(out / 'student.pth', weights_only=True)['state_dict']
    assert saved
    for key, value in saved.items():
        assert torch.equal(value, trained[prefix + key])
    images = torch.randn(4, 1, 8, 8)
    answers = []
    for name in ('student', 'student_folded'):
        cfg = Config.fromfile(out / f'{name}.py')
        assert cfg.model.backbone.type == 'StudentResNet_CIFAR'
        assert cfg.model.head.type == 'LinearClsHead'
        assert cfg.data_preprocessor.type == 'ClsDataPreprocessor'
        assert cfg.test_dataloader.dataset.type == 'Digits'
        assert cfg.test_dataloader.sampler.type == 'DefaultSampler'
        assert cfg.val_evaluator.type == 'Accuracy'
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(cfg.model).eval()
        load_checkpoint(model, str(out / f'{name}.pth'), strict=True)
        answers.append(model(images))
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-4)
