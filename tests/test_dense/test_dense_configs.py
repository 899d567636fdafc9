# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The configs of detectors and segmentors train for one iteration.

Only data, sizes and the length of the training are other ones.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.runner import Runner

from reducenet_mm.engine.preflight import (
    check_config,
    check_model_keys,
    walk_model,
)
from tests.config_runs import Record

from .distillation import build
from .images import SIDE, write_images

CONFIGS = Path(__file__).parents[2] / 'configs' / 'reducenet'
FAMILIES = ('detection', 'segmentation')
LEAVES = sorted(p for name in FAMILIES for p in (CONFIGS / name).glob('*.py'))
STUDENTS = [path for path in LEAVES if 'distill-' in path.stem]
SMALL = dict(
    scale=(SIDE, SIDE),
    crop_size=(SIDE // 2, SIDE // 2),
    size=(SIDE // 2, SIDE // 2),
    init_cfg=None,
    pretrained=None,
    score_thr=0.0,  # an untrained detector finds something too
    stacked_convs=1,
    num_workers=0,
    persistent_workers=False,
)
"""Key, anywhere in a config -> its value for a few images on a CPU."""

DATA = dict(
    detection=dict(ann_file='boxes.json', data_prefix=dict(img='images/')),
    segmentation=dict(
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        img_suffix='.jpg',
        seg_map_suffix='.png',
    ),
)
LOSSES = dict(
    detection=(
        {'loss_cls', 'loss_bbox'},
        {'loss_pkd_fpn'},
    ),
    segmentation=(
        {'decode.loss_ce', 'decode.acc_seg', 'aux.loss_ce', 'aux.acc_seg'},
        {'loss_pkd_stage4', 'loss_cwd'},
    ),
)
METRICS = dict(detection='coco/bbox_mAP', segmentation='mIoU')


def small(value: Any) -> Any:
    if isinstance(value, Mapping):
        value = {key: small(item) for key, item in value.items()}
        for key in value.keys() & SMALL.keys():
            value[key] = copy.deepcopy(SMALL[key])
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(small(item) for item in value)
    return value


def prepare(path: Path, root: Path) -> Config:
    """The config for one iteration on two of four images."""
    cfg = Config(small(Config.fromfile(path)._cfg_dict.to_dict()))
    family = path.parent.name
    names = CocoDataset.METAINFO['classes']
    write_images(root / 'data', names=names)
    for part in ('train', 'val', 'test'):
        dataset = cfg[f'{part}_dataloader'].dataset
        dataset.update(data_root=str(root / 'data'), **DATA[family])
        if family == 'detection' and part != 'train':
            cfg[f'{part}_evaluator'].ann_file = str(root / 'data/boxes.json')
    if family == 'detection':
        cfg.train_dataloader.dataset.indices = 2
        cfg.train_cfg.max_epochs = 1
    else:
        cfg.train_cfg.update(max_iters=1, val_interval=1)
    cfg.work_dir = str(root / 'work_dir')
    cfg.experiment_name = f'{path.stem}_{root.name}'
    if 'teacher_ckpt' in cfg.model:
        teacher = build(Config(dict(cfg, model=cfg.model.architecture)))
        teacher.init_weights()
        cfg.model.teacher_ckpt = str(root / 'teacher.pth')
        torch.save(
            dict(state_dict=teacher.state_dict()), cfg.model.teacher_ckpt
        )
    return cfg


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_trains_and_validates(path, tmp_path):
    family = path.parent.name
    cfg = prepare(path, tmp_path)
    loaders = [f'{part}_dataloader' for part in ('train', 'val', 'test')]
    check_config(cfg, loaders, init_weights=True)
    runner = Runner.from_cfg(cfg)
    record = Record()
    runner.register_hook(record)
    runner.train()
    ((inputs, losses),) = record.seen['train']
    own, distilled = LOSSES[family]
    if path in STUDENTS:
        own = {f'student.{name}' for name in own}
        own |= {f'distill.{name}' for name in distilled}
    assert set(losses) == own | {'loss'}
    summed = [v.item() for k, v in losses.items() if 'loss_' in k]
    assert len(summed) == 2 + len(distilled) * (path in STUDENTS)
    assert losses['loss'].item() == pytest.approx(sum(summed))
    scalars = runner.message_hub.log_scalars
    metric = METRICS[family]
    assert (f'val/teacher/{metric}' in scalars) == (path in STUDENTS)


def test_the_teachers_start_from_the_stock_checkpoint(tmp_path):
    """MMSegmentation's models hand theirs over to the backbone."""
    (path,) = (p for p in LEAVES if p not in STUDENTS and 'fcn' in p.stem)
    cfg = Config.fromfile(path)
    stock = build(
        Config(
            dict(
                default_scope='mmseg',
                model=dict(cfg.model.backbone.backbone, _scope_='mmseg'),
            )
        )
    )
    cfg.model.pretrained = str(tmp_path / 'stock.pth')
    torch.save(dict(state_dict=stock.state_dict()), cfg.model.pretrained)
    teacher = build(cfg)
    teacher.init_weights()
    found = teacher.backbone.state_dict()
    assert all(
        torch.equal(found[key], value)
        for key, value in stock.state_dict().items()
    )


@pytest.mark.parametrize(
    'name',
    [
        # Their keys are taken by what builds or calls the named type.
        'mmdet::dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py',
        'mmdet::detr/detr_r50_8xb2-150e_coco.py',
        'mmdet::queryinst/queryinst_r50_fpn_1x_coco.py',
        'mmdet::solov2/solov2-light_r50-dcn_fpn_ms-3x_coco.py',
        'mmdet::vfnet/vfnet_r50_fpn_1x_coco.py',
        'mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py',
    ],
)
def test_no_key_of_a_stock_config_is_refused(name, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = {name!r}')
    cfg = Config.fromfile(path)
    nodes = walk_model(cfg)
    assert any(node.target is not None for node in nodes)
    check_model_keys(nodes)
    cfg.model.backbone.dephh = cfg.model.backbone.pop('depth')
    with pytest.raises(ValueError, match="Did you mean 'depth'"):
        check_model_keys(walk_model(cfg))
