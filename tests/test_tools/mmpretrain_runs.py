# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Narrow networks of three kinds for MMPretrain's tools; their configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from reducenet_mm.models.checkpoint_views import split_state_dict
from tests.tiny_data import use_tiny_data

CONFIGS = Path(__file__).parents[2] / 'configs' / 'reducenet'
NARROW: dict[str, Any] = dict(
    backbone=dict(base_channels=8), head=dict(in_channels=64)
)
GRAFTED = """
_base_ = 'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py'
custom_imports = dict(imports=['reducenet_mm'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True,
        type='GraftedBackbone',
        backbone=dict(_base_.model.backbone, widen_factor=0.25),
        targets='depthwise',
        expansion=2,
    )
)
"""


def write_config(folder: Path, name: str) -> None:
    """Write a config, narrow, with a few images and one epoch."""
    source = CONFIGS / f'imagenet/reducenet18-e1_imagenet_{name}.py'
    if name == 'grafted':
        source = folder / 'mine.py'
        source.write_text(GRAFTED)
    cfg = use_tiny_data(Config.fromfile(source), folder)
    cfg.train_cfg.max_epochs = 1
    if name == 'teacher':
        cfg.merge_from_dict(dict(model=NARROW))
    elif name == 'student':
        cfg.model.teacher_ckpt = str(folder / 'teacher')
        cfg.merge_from_dict(dict(model=dict(architecture=NARROW)))
    cfg.dump(folder / f'{name}.py')


def weights(folder: Path, name: str) -> dict[str, Tensor]:
    return torch.load(folder / name / 'epoch_1.pth')['state_dict']


def stock_resnet(model: ConfigDict) -> ConfigDict:
    """Return a classifier's config on MMPretrain's own backbone."""
    model.backbone = dict(
        type='ResNet', depth=18, base_channels=8, stem_channels=8
    )
    return model


def reference(folder: Path, name: str) -> nn.Module:
    """Build the network that a checkpoint is to be taken for.

    The student's is MMPretrain's own.
    """
    cfg, state = Config.fromfile(folder / f'{name}.py'), weights(folder, name)
    if name == 'student':
        cfg.model = stock_resnet(cfg.model.architecture)
        _, state = split_state_dict(state)
    cfg.model.data_preprocessor = cfg.data_preprocessor
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model).eval()
    model.load_state_dict(state, strict=True)
    return model
