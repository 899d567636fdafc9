# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Students of detectors and segmentors are stock networks again."""

from __future__ import annotations

import copy

import mmdet.apis
import mmdet.models
import mmseg.apis
import mmseg.models
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader

from reducenet_mm import ungraft
from reducenet_mm.export import ExportOptions, export_student
from reducenet_mm.models.checkpoint_views import split_state_dict

from .configs import detector
from .distillation import (
    KINDS,
    answers,
    build,
    stock,
    student_of,
    trained_teacher,
)
from .images import write_images

CLASSES = dict(
    detector=(mmdet.models.RetinaNet, mmdet.models.ResNet),
    segmentor=(mmseg.models.EncoderDecoder, mmseg.models.ResNet),
)


TOOLS = dict(
    mmdet=(mmdet.apis.init_detector, mmdet.apis.inference_detector),
    mmseg=(mmseg.apis.init_model, mmseg.apis.inference_model),
)


def outputs(network) -> torch.Tensor:
    images = torch.randn(2, 3, 64, 64, generator=torch.manual_seed(3))
    with torch.no_grad():
        found = network.eval()(images, mode='tensor')
    if isinstance(found, torch.Tensor):
        return found
    return torch.cat([x.flatten() for part in found for x in part])


def test_they_load_strictly_into_the_stock_class(trained):
    plain = stock(trained)
    network, backbone = CLASSES[
        'detector' if trained.kind is KINDS['detector'] else 'segmentor'
    ]
    assert type(plain) is network
    assert type(plain.backbone) is backbone
    file = CheckpointLoader.load_checkpoint(
        f'{trained.runner.work_dir}/epoch_2.pth'
    )
    _, student = split_state_dict(file['state_dict'])
    plain.load_state_dict(student, strict=True)
    supernet = trained.runner.model.architecture
    expected = outputs(supernet)  # at scaler 0
    torch.testing.assert_close(outputs(plain), expected, rtol=0, atol=1e-6)
    other = outputs(student_of(trained.teacher))
    assert not torch.allclose(other, expected, atol=1e-2)

    ungrafted = ungraft(copy.deepcopy(supernet))
    assert list(ungrafted.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(outputs(ungrafted), expected, rtol=0, atol=1e-6)


def test_they_are_exported_for_their_toolbox(trained, tmp_path):
    cfg = copy.deepcopy(trained.runner.cfg)
    cfg.visualizer = dict(type='DetLocalVisualizer')
    checkpoint = f'{trained.runner.work_dir}/epoch_2.pth'
    result = export_student(cfg, checkpoint, tmp_path)
    assert sorted(result.files) == ['parity.json', 'student.pth', 'student.py']
    assert result.largest_difference <= 1e-10
    assert result.images == dict(validation=1, random=1)
    assert result.accuracy == {}
    text = result.config.read_text()
    written = Config.fromfile(result.config)
    assert written.default_scope == trained.teacher_cfg.default_scope
    for word in ('reducenet', 'mmrazor', 'GraftedBackbone', 'expand'):
        assert word not in text.partition('\ndefault_scope')[2]
    file = CheckpointLoader.load_checkpoint(str(result.weights))
    assert list(file['state_dict']) == list(stock(trained).state_dict())
    plain = build(written)
    plain.load_state_dict(file['state_dict'], strict=True)
    expected = outputs(trained.runner.model.architecture)
    torch.testing.assert_close(outputs(plain), expected, rtol=0, atol=1e-6)
    assert file['meta']['dataset_meta']['classes'][-2:] == ['dark', 'bright']


@pytest.mark.parametrize('form', ['fold', 'onnx', 'int8'])
def test_what_only_classifiers_have_is_refused(trained, tmp_path, form):
    checkpoint = f'{trained.runner.work_dir}/epoch_2.pth'
    with pytest.raises(ValueError, match=f'{form}: only a classifier'):
        export_student(
            trained.runner.cfg,
            checkpoint,
            tmp_path / 'out',
            ExportOptions(**{form: True}),
        )
    assert not (tmp_path / 'out').exists()


@torch.no_grad()
def test_their_toolbox_runs_the_files_alone(trained, tmp_path):
    checkpoint = f'{trained.runner.work_dir}/epoch_2.pth'
    result = export_student(trained.runner.cfg, checkpoint, tmp_path)
    start, infer = TOOLS[trained.teacher_cfg.default_scope]
    plain = start(str(result.config), str(result.weights), device='cpu')
    found = infer(plain, str(trained.root / 'data/images/0.jpg'))
    student = student_of(trained.runner.model.architecture)
    raw = next(iter(trained.runner.val_dataloader))
    expected = student.eval().val_step(raw)[:1]
    (found,), (expected,) = answers([found]), answers(expected)
    assert len(found) > 0
    torch.testing.assert_close(found, expected)


def test_a_two_stage_detector_is_exported_too(tmp_path):
    """It is compared by its features: boxes are selected in float32 only."""
    write_images(tmp_path / 'data')
    cfg = detector(tmp_path / 'data')
    path = tmp_path / 'stock.py'
    path.write_text(
        "_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'"
    )
    model = Config.fromfile(path).model
    model.backbone, model.neck = cfg.model.backbone, cfg.model.neck
    model.rpn_head.update(in_channels=16, feat_channels=16)
    model.rpn_head.anchor_generator.strides = [4, 8, 16]
    roi_head = model.roi_head
    roi_head.bbox_roi_extractor.update(
        out_channels=16, featmap_strides=[4, 8, 16]
    )
    roi_head.bbox_head.update(
        in_channels=16, fc_out_channels=16, num_classes=2
    )
    cfg.model = model
    supernet = trained_teacher(cfg)
    checkpoint = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=supernet.state_dict()), checkpoint)
    result = export_student(cfg, checkpoint, tmp_path / 'out')
    assert result.largest_difference <= 1e-10
    plain = build(Config.fromfile(result.config))
    file = CheckpointLoader.load_checkpoint(str(result.weights))
    plain.load_state_dict(file['state_dict'], strict=True)
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = Runner.build_dataloader(cfg.val_dataloader, seed=0)
    raw = next(iter(loader))
    with torch.no_grad():
        expected = answers(student_of(supernet).val_step(raw))
        found = answers(plain.eval().val_step(raw))
    assert sum(len(scores) for scores in found) > 0
    assert all(map(torch.equal, found, expected))
