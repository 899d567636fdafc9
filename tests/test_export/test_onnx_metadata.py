# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""An ONNX file says how to feed it, to who has nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmpretrain import ImageClassificationInferencer
from mmpretrain.registry import MODELS

from reducenet_mm.export import ExportOptions, export_student
from reducenet_mm.export.onnx_metadata import onnx_metadata
from tests.conftest import randomise_norms
from tests.test_export.folders import write_images

MEAN, STD = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]
META: dict[str, Any] = dict(classes=['a'], provenance=dict(epoch=3))
LOAD, PACK = dict(type='LoadImageFromFile'), dict(type='PackInputs')
OWN = 'as the data set of the training has it'


@pytest.mark.parametrize('to_rgb', [True, False])
def test_who_follows_it_gets_what_the_inferencer_gets(
    to_rgb: bool, classifier_cfg: Callable, tmp_path: Path
) -> None:
    crop = dict(type='CenterCrop', crop_size=(10, 8))
    images = write_images(tmp_path / 'images')
    dataset = dict(
        type='CustomDataset',
        data_root=str(images),
        pipeline=[LOAD, crop, PACK],
    )
    model_cfg = classifier_cfg()
    settings = dict(mean=MEAN, std=STD, to_rgb=to_rgb)
    model_cfg['data_preprocessor'].update(settings)
    cfg = Config(dict(model=model_cfg))
    cfg.val_dataloader = dict(dataset=dataset)
    model = randomise_norms(MODELS.build(model_cfg))
    torch.nn.init.normal_(model.head.fc.weight)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
    options = ExportOptions(onnx=True)
    result = export_student(cfg, tmp_path / 'a.pth', tmp_path / 'out', options)

    session = onnxruntime.InferenceSession(result.files['student.onnx'])
    texts = session.get_modelmeta().custom_metadata_map
    about = {key: json.loads(text) for key, text in texts.items()}
    assert about['to_rgb'] == to_rgb
    assert about['input_size'] == [3, 8, 10]
    assert about['pipeline'] == [LOAD, dict(crop, crop_size=[10, 8]), PACK]
    image = cv2.imread(str(images / 'cat' / 'cat1.png'))[3:11, 1:11]
    if about['channel_order'] == 'RGB':
        image = image[..., ::-1]
    inputs = ((image - about['mean']) / about['std']).transpose(2, 0, 1)[None]
    (logits,) = session.run(None, {'images': inputs.astype(np.float32)})
    scores = torch.from_numpy(logits).softmax(1)[0]
    infer = ImageClassificationInferencer(
        str(result.config), pretrained=str(result.weights)
    )
    wanted = infer(str(images / 'cat' / 'cat1.png'))[0]['pred_scores']
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    turned = np.ascontiguousarray(inputs[:, ::-1]).astype(np.float32)
    other = torch.from_numpy(session.run(None, {'images': turned})[0])
    assert (other.softmax(1)[0].numpy() - wanted).max() > 1e-4


def described(model: dict[str, Any], pipeline: Any, size: Any) -> Any:
    dataset = dict(type='CIFAR10', pipeline=pipeline)
    cfg = Config(dict(model=model, test_dataloader=dict(dataset=dataset)))
    texts = onnx_metadata(cfg, META, size)
    return {key: json.loads(text) for key, text in texts.items()}


@pytest.mark.parametrize(
    ('pipeline', 'channels', 'order'),
    [
        ([LOAD, PACK], 3, 'BGR'),
        ([PACK], 3, OWN),  # CIFAR's arrays are RGB, with to_rgb=False
        ([LOAD, PACK], 4, OWN),
        ([LOAD, PACK], 1, 'grey'),
    ],
)
def test_channels_have_the_order_of_the_data(
    pipeline: Any, channels: int, order: str, classifier_cfg: Callable
) -> None:
    about = described(classifier_cfg(), pipeline, (channels, 8, 8))
    assert about['channel_order'] == order
    assert about['to_rgb'] is False
    assert about['classes'] == ['a'] and about['epoch'] == 3


def test_what_is_not_normalised_or_no_json_is_said_too(
    classifier_cfg: Callable,
) -> None:
    model = classifier_cfg()
    model['data_preprocessor'] = dict(type='ClsDataPreprocessor')
    steps = [dict(type='Mine', path=Path('x'))]
    about = described(model, steps, (3, 8, 8))
    assert (about['mean'], about['std']) == ([0.0] * 3, [1.0] * 3)
    assert about['pipeline'] == [dict(type='Mine', path='x')]


def test_without_data_the_pipeline_is_null(classifier_cfg: Callable) -> None:
    cfg = Config(dict(model=classifier_cfg()))
    assert onnx_metadata(cfg, META, (3, 8, 8))['pipeline'] == 'null\n'
