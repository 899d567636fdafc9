# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Export: the same function, without a trace of the branches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmpretrain import get_model
from mmpretrain.registry import MODELS
from torch import nn

from reducenet_mm import __version__, set_scaler
from reducenet_mm.export import ExportOptions, ParityError, export_student
from reducenet_mm.export.parity import (
    Form,
    answer_of,
    compare,
    largest_difference,
)
from reducenet_mm.export.plain_model import plain_model_cfg
from tests.conftest import randomise_norms

CLASSES = ('ant', 'bee', 'cat', 'dog', 'eel')
ALGORITHM = dict(
    _scope_='mmrazor', type='SupernetDistill', distiller=None, reuse=None
)
DIGITS = Path('configs/reducenet/digits')


def save(path: Path, state: dict[str, Any]) -> Path:
    meta = dict(epoch=7, dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=state, meta=meta), path)
    return path


def build(model_cfg: dict[str, Any]) -> nn.Module:
    return randomise_norms(MODELS.build(model_cfg))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def teacher(classifier_cfg: Callable, tmp_path: Path):
    """Config, network and checkpoint of a teacher."""
    model = build(classifier_cfg())
    path = save(tmp_path / 'epoch_7.pth', model.state_dict())
    return Config(dict(model=classifier_cfg())), model, path


@pytest.fixture
def distilled(classifier_cfg: Callable, tmp_path: Path):
    """Config, student and checkpoint of a distillation stage.

    Its student differs from its teacher in every tensor that may.
    """
    model_cfg = dict(ALGORITHM, architecture=classifier_cfg())
    model = MODELS.build(model_cfg)
    model.load_teacher(build(classifier_cfg()).state_dict())
    randomise_norms(model.architecture)
    path = save(tmp_path / 'epoch_9.pth', model.state_dict())
    return Config(dict(model=model_cfg)), model.architecture, path


@pytest.mark.parametrize('stage', ['teacher', 'distilled'])
def test_the_exported_student_is_the_supernet_at_scaler_0(
    stage: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    cfg, supernet, checkpoint = request.getfixturevalue(stage)
    result = export_student(cfg, checkpoint, tmp_path / 'out')
    assert names(tmp_path / 'out') == [
        'parity.json',
        'student.pth',
        'student.py',
        'student_backbone.py',
    ]
    saved = torch.load(result.weights, weights_only=True)
    assert not [key for key in saved['state_dict'] if 'expand' in key]

    plain_cfg = Config.fromfile(result.config)
    plain_cfg.model.data_preprocessor = None
    plain = MODELS.build(dict(plain_cfg.model, _scope_='mmpretrain'))
    plain.load_state_dict(saved['state_dict'], strict=True)
    set_scaler(supernet, 0.0)
    images = torch.randn(4, 3, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            plain.double().eval()(images),
            supernet.double().eval()(images),
            rtol=0,
            atol=1e-10,
        )
    assert result.largest_difference <= 1e-10
    assert [one.form for one in result.comparisons] == [
        'stripped and merged',
        'student.pth',
    ]
    assert result.comparisons[1].largest == 0  # nothing merged
    assert result.params == sum(p.numel() for p in plain.parameters())


def test_meta_says_where_the_weights_are_from(
    distilled: Any, tmp_path: Path
) -> None:
    cfg, _, checkpoint = distilled
    result = export_student(cfg, checkpoint, tmp_path / 'out')
    meta = torch.load(result.weights, weights_only=True)['meta']
    assert meta['classes'] == list(CLASSES)
    assert meta['dataset_meta'] == dict(classes=list(CLASSES))
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert meta['provenance'] == dict(
        checkpoint='epoch_9.pth',
        sha256=digest,
        epoch=7,
        reducenet_mm=__version__,
    )
    assert digest in result.config.read_text()


def test_classes_come_from_the_data_if_the_checkpoint_has_none(
    tmp_path: Path,
) -> None:
    cfg = Config.fromfile(DIGITS / 'reducenet8-w16-e4_digits_teacher.py')
    model = MODELS.build(dict(cfg.model))
    torch.save(model.state_dict(), tmp_path / 'bare.pth')
    result = export_student(cfg, tmp_path / 'bare.pth', tmp_path / 'out')
    meta = torch.load(result.weights, weights_only=True)['meta']
    assert meta['classes'] == [str(digit) for digit in range(10)]


def test_the_config_names_no_branch_and_no_algorithm(
    distilled: Any, tmp_path: Path
) -> None:
    cfg, _, checkpoint = distilled
    text = export_student(cfg, checkpoint, tmp_path / 'out').config.read_text()
    body = [line for line in text.splitlines() if not line.startswith('#')]
    for word in ('ReduceNet', 'expan', 'scaler', 'eacher', 'istill', 'razor'):
        assert not [line for line in body if word in line]


def test_mmpretrain_takes_the_files_as_they_are(
    distilled: Any, tmp_path: Path
) -> None:
    cfg, supernet, checkpoint = distilled
    cfg.data_preprocessor = cfg.model.architecture.pop('data_preprocessor')
    result = export_student(cfg, checkpoint, tmp_path / 'out')
    model = get_model(str(result.config), pretrained=str(result.weights))
    set_scaler(supernet, 0.0)
    images = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(model.eval()(images), supernet.eval()(images))
    assert list(model._dataset_meta['classes']) == list(CLASSES)


def test_imagenet_layout_becomes_mmpretrains_resnet(
    classifier_cfg: Callable, tmp_path: Path
) -> None:
    model_cfg = classifier_cfg(depth=18, expansion=1)
    model_cfg['head']['in_channels'] = 32
    model = build(model_cfg)
    checkpoint = save(tmp_path / 'epoch_1.pth', model.state_dict())
    cfg = Config(dict(model=model_cfg))
    result = export_student(cfg, checkpoint, tmp_path / 'out')
    written = Config.fromfile(result.config)
    assert written.model.backbone == dict(
        type='ResNet', depth=18, base_channels=4, stem_channels=4
    )
    assert 'custom_imports' not in written
    assert result.largest_difference <= 1e-10


def test_an_activation_that_mmpretrain_cannot_set_needs_the_shipped_class(
    classifier_cfg: Callable,
) -> None:
    model_cfg = classifier_cfg(depth=18, act_cfg=dict(type='GELU'))
    backbone = plain_model_cfg(Config(dict(model=model_cfg)))['backbone']
    assert backbone['type'] == 'StudentResNet'
    assert backbone['act_cfg'] == dict(type='GELU')


def test_digits_are_compared_on_real_validation_images(
    tmp_path: Path,
) -> None:
    cfg = Config.fromfile(DIGITS / 'reducenet8-w16-e4_digits_student.py')
    model = build(dict(cfg.model.architecture))
    checkpoint = save(tmp_path / 'epoch_1.pth', model.state_dict())
    result = export_student(cfg, checkpoint, tmp_path / 'out')
    assert result.images == dict(validation=16, random=16)
    written = Config.fromfile(result.config)
    assert written.val_dataloader == cfg.val_dataloader
    grey, *steps = written.test_dataloader.dataset.pipeline
    assert grey.type == 'RandomGrayscale'
    assert steps == cfg.test_dataloader.dataset.pipeline
    assert written.test_evaluator == cfg.test_evaluator
    assert written.test_cfg == cfg.test_cfg
    imports = ['student_backbone', 'reducenet_mm']
    assert written.custom_imports.imports == imports
    assert 'train_dataloader' not in written


def test_without_the_data_random_images_are_compared(
    teacher: Any, tmp_path: Path
) -> None:
    cfg, _, checkpoint = teacher
    root = tmp_path / 'none'  # CIFAR10 would download to there by itself
    cifar = dict(type='CIFAR10', data_root=str(root), split='train')
    split = dict(type='HoldoutSplit', part='val', val_size=10, dataset=cifar)
    for dataset in (cifar, split):
        cfg.val_dataloader = dict(dataset=dataset)
        result = export_student(
            cfg,
            checkpoint,
            tmp_path / 'out',
            ExportOptions(accuracy=True),
        )
        assert result.images == dict(random=16)
        assert result.accuracy == {}
    assert not root.exists()


def test_nan_weights_are_refused_and_nothing_is_written(
    teacher: Any, tmp_path: Path
) -> None:
    cfg, model, path = teacher
    with torch.no_grad():
        model.backbone.conv1.weight[0, 0, 0, 0] = float('nan')
    save(path, model.state_dict())
    with pytest.raises(ParityError, match='Does CHECKPOINT hold NaN'):
        export_student(cfg, path, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_parity_sees_a_tiny_change_and_an_active_branch(
    teacher: Any, classifier_cfg: Callable
) -> None:
    cfg, supernet, _ = teacher
    plain = MODELS.build(plain_model_cfg(cfg))
    student = {
        key: value
        for key, value in supernet.state_dict().items()
        if '.expand.' not in key
    }
    plain.load_state_dict(student)
    images = torch.randn(4, 3, 12, 12)
    set_scaler(supernet.double(), 0.0)
    plain.double()
    wanted, answer = answer_of(supernet), answer_of(plain)
    assert largest_difference(wanted(images), answer(images)) <= 1e-10
    with torch.no_grad():
        plain.backbone.layer2[0].conv2.weight.add_(1e-6)
    assert 1e-10 < largest_difference(wanted(images), answer(images)) < 1e-3
    plain.load_state_dict(student)
    set_scaler(supernet, 1.0)
    assert largest_difference(wanted(images), answer(images)) > 1e-3


def test_the_step_that_breaks_is_named() -> None:
    def shifted(by: float) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda images: images.mean((2, 3)) + by

    forms = [
        Form('first', 'float32', shifted(1e-6), 1e-5),
        Form('second', 'float32', shifted(1e-3), 1e-5),
        Form('third', 'float32', shifted(0.0), 1e-5),
    ]
    images = dict(random=torch.ones(2, 3, 4, 4))
    references = dict(float32=shifted(0.0))
    with pytest.raises(
        ParityError,
        match=r'second.*right until then: first.*Leave it out',
    ):
        compare(references, forms, images)
    passed = compare(references, forms[::2], images)
    assert [one.form for one in passed] == ['first', 'third']
    assert passed[0].differences['random'] == pytest.approx(1e-6, rel=0.1)
    # Nothing is expected of int8, but numbers.
    nan = Form('int8', 'int8', shifted(float('nan')), None)
    with pytest.raises(ParityError, match='int8.*Does CHECKPOINT hold'):
        compare(references, [nan], images)
    with pytest.raises(ParityError, match='first.*Its numbers overflow'):
        compare(references, [forms[0], nan], images)


def test_a_checkpoint_of_another_width_is_refused(
    teacher: Any, classifier_cfg: Callable, tmp_path: Path
) -> None:
    _, _, checkpoint = teacher
    cfg = Config(dict(model=classifier_cfg(base_channels=8)))
    with pytest.raises(ValueError, match='base_channels'):
        export_student(cfg, checkpoint, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_missing_checkpoint_is_named(teacher: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        export_student(teacher[0], tmp_path / 'gone.pth', tmp_path / 'out')


def test_a_network_without_branches_has_no_student(
    teacher: Any, classifier_cfg: Callable, tmp_path: Path
) -> None:
    model_cfg = classifier_cfg(type='PlainResNet')
    del model_cfg['backbone']['expansion']
    with pytest.raises(ValueError, match="'PlainResNet'"):
        export_student(
            Config(dict(model=model_cfg)), teacher[2], tmp_path / 'out'
        )


def test_the_config_given_is_left_alone(
    distilled: Any, tmp_path: Path
) -> None:
    cfg, _, checkpoint = distilled
    before = cfg.to_dict()
    export_student(cfg, checkpoint, tmp_path / 'out')
    assert cfg.to_dict() == before


@pytest.mark.parametrize('as_file', [False, True])
@pytest.mark.parametrize('key', ['metainfo.classes', 'classes'])
def test_classes_that_the_config_names_are_shipped(
    distilled: Any, tmp_path: Path, key: str, as_file: bool
) -> None:
    """Where the checkpoint does not say."""
    cfg, _, checkpoint = distilled
    state = torch.load(checkpoint, weights_only=False)['state_dict']
    torch.save(state, checkpoint)
    named: Any = list(CLASSES)
    if as_file:
        named = str(tmp_path / 'classes.txt')
        Path(named).write_text('\n'.join(CLASSES))
    root = str(tmp_path / 'absent')
    dataset = dict(type='CustomDataset', data_root=root, pipeline=[])
    cfg.val_dataloader = dict(dataset=dataset)
    cfg.merge_from_dict({f'val_dataloader.dataset.{key}': named})
    if key.startswith('metainfo'):  # which MMPretrain puts first
        cfg.val_dataloader.dataset.classes = ['other']
    result = export_student(cfg, checkpoint, tmp_path / 'out')
    meta = torch.load(result.weights, weights_only=True)['meta']
    assert meta['classes'] == list(CLASSES)


def test_an_address_is_refused_before_any_work(
    distilled: Any, tmp_path: Path
) -> None:
    cfg, _, _ = distilled
    address = 'http://127.0.0.1:1/epoch_9.pth'
    with pytest.raises(ValueError, match='is an address. Download it'):
        export_student(cfg, address, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_norms_without_a_scale_are_not_folded() -> None:
    backbone = dict(
        type='ReduceNet',
        depth=8,
        block='sequential',
        inner_norm=False,
        norm_cfg=dict(type='BN', affine=False),
    )
    cfg = Config(dict(model=dict(type='ImageClassifier', backbone=backbone)))
    with pytest.raises(ValueError, match="and a scale .*'affine': False"):
        plain_model_cfg(cfg, folded=True)
    assert plain_model_cfg(cfg)['backbone']['norm_cfg']['affine'] is False


def test_a_host_keeps_the_scope_that_its_graft_is_built_in() -> None:
    host = dict(type='MobileNetV2')
    graft = dict(type='GraftedBackbone', _scope_='mmpretrain', backbone=host)
    model = dict(type='RetinaNet', backbone=graft)
    cfg = Config(dict(default_scope='mmdet', model=model))
    shipped = plain_model_cfg(cfg)['backbone']
    assert shipped == dict(type='MobileNetV2', _scope_='mmpretrain')
    host['_scope_'] = 'mmdet'
    cfg = Config(dict(default_scope='mmdet', model=model))
    assert plain_model_cfg(cfg)['backbone'] == host
