# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A grafted backbone's student is exported as the stock network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from mmengine.config import Config
from mmpretrain import get_model
from mmpretrain.registry import MODELS

from reducenet_mm import set_scaler
from reducenet_mm.export import ExportOptions, export_student
from tests.conftest import randomise_norms
from tests.test_export.folders import write_images

HOSTS = dict(
    MobileNetV2=(dict(widen_factor=0.1, out_indices=(3,)), 'depthwise', 8),
    ResNet=(
        dict(depth=18, base_channels=4, stem_channels=4, frozen_stages=1),
        'block_first_conv',
        32,
    ),
)
LORAS: list[dict[str, Any] | None] = [
    None,
    dict(kind='weight'),
    dict(kind='kxk_1x1'),
]


def config(
    name: str, classifier_cfg: Callable, lora: dict[str, Any] | None
) -> Config:
    settings, targets, channels = HOSTS[name]
    model = classifier_cfg()
    model['backbone'] = dict(
        type='GraftedBackbone',
        backbone=dict(type=name, **settings),
        targets=targets,
        lora=lora,
    )
    model['head']['in_channels'] = channels
    return Config(dict(model=model))


def checkpoint(cfg: Config, path: Path) -> torch.nn.Module:
    model = randomise_norms(MODELS.build(cfg.model))
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    torch.save(dict(state_dict=model.state_dict()), path)
    return model


@pytest.mark.parametrize('lora', LORAS, ids=str)
@pytest.mark.parametrize('name', HOSTS)
def test_the_student_is_the_stock_network(
    name: str, lora: Any, classifier_cfg: Callable, tmp_path: Path
) -> None:
    cfg = config(name, classifier_cfg, lora)
    supernet = checkpoint(cfg, tmp_path / 'a.pth')
    result = export_student(cfg, tmp_path / 'a.pth', tmp_path / 'out')
    assert result.largest_difference <= 1e-10
    backbone = Config.fromfile(result.config).model.backbone
    stock = {k: v for k, v in HOSTS[name][0].items() if k != 'frozen_stages'}
    assert backbone == dict(type=name, **stock)
    plain = get_model(str(result.config), pretrained=str(result.weights))
    set_scaler(supernet.eval(), 0.0)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(plain.eval()(images), supernet(images))
    set_scaler(supernet, 1.0)
    assert not torch.allclose(plain(images), supernet(images), rtol=0.01)


def test_what_merging_leaves_behind_is_named(
    classifier_cfg: Callable, tmp_path: Path
) -> None:
    cfg = config('MobileNetV2', classifier_cfg, dict(kind='1x1'))
    checkpoint(cfg, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='a norm inside a `lora` branch'):
        export_student(cfg, tmp_path / 'a.pth', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_folding_is_for_reducenet_and_refused_first(
    classifier_cfg: Callable, tmp_path: Path
) -> None:
    cfg = config('ResNet', classifier_cfg, None)
    cfg.val_dataloader = dict(dataset=dict(type='NoSuchDataset'))
    options = ExportOptions(fold=True)
    with pytest.raises(ValueError, match='for a ReduceNet.*without folding'):
        export_student(cfg, tmp_path / 'gone.pth', tmp_path / 'out', options)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', HOSTS)
def test_onnx_folds_the_stock_network_and_int8_quantises_it(
    name: str, classifier_cfg: Callable, tmp_path: Path
) -> None:
    cfg = config(name, classifier_cfg, None)
    steps = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    images = str(write_images(tmp_path / 'images'))
    cfg.train_dataloader = cfg.val_dataloader = dict(
        dataset=dict(type='CustomDataset', data_root=images, pipeline=steps)
    )
    checkpoint(cfg, tmp_path / 'a.pth')
    options = ExportOptions(int8=True)
    result = export_student(cfg, tmp_path / 'a.pth', tmp_path / 'out', options)
    assert {'student.onnx', 'student_int8.onnx'} <= set(result.files)
    *_, exact, quantised = result.comparisons
    assert exact.largest <= 1e-4 < quantised.largest
    for one in ('student.onnx', 'student_int8.onnx'):
        nodes = onnx.load(result.files[one]).graph.node
        assert 'BatchNormalization' not in {node.op_type for node in nodes}
