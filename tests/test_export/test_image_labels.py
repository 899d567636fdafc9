# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Accuracy is measured on sets with one label an image, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn
from torch.utils.data import Dataset

from reducenet_mm.export.images import ImageSource

COUNT = 70  # more than one batch


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture
def model(classifier_cfg: Callable[..., dict]) -> nn.Module:
    return MODELS.build(classifier_cfg())


def count_measured(
    dataset: dict[str, Any], model: nn.Module, limit: int | None = None
) -> int:
    """Return on how many images of a set the accuracy is measured."""
    source = ImageSource(
        Config(dict(val_dataloader=dict(dataset=dataset))), model
    )
    assert source.missing == {}
    return sum(len(labels) for _, labels in source.validation(limit))


@pytest.mark.parametrize(
    ('where', 'labels', 'measured'),
    [
        (69, [0, 1], False),
        (0, [0, 1], False),
        (69, [], False),
        (69, [1], True),
    ],
)
def test_nothing_is_measured_unless_every_image_has_one_label(
    where: int,
    labels: list[int],
    measured: bool,
    model: nn.Module,
    tmp_path: Path,
) -> None:
    """Neither the batches before that image nor a sample are the set."""
    image = str(tmp_path / 'image.png')
    assert cv2.imwrite(image, np.zeros((4, 4, 3), np.uint8))
    data_list = [dict(img_path=image, gt_label=[0]) for _ in range(COUNT)]
    data_list[where]['gt_label'] = labels
    ann_file = tmp_path / 'labels.json'
    content = dict(metainfo=dict(classes=['a', 'b']), data_list=data_list)
    ann_file.write_text(json.dumps(content))
    dataset = dict(
        type='MultiLabelDataset',
        ann_file=str(ann_file),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    )
    assert count_measured(dataset, model) == measured * COUNT
    assert count_measured(dataset, model, limit=2) == measured * 2
    wrapped = dict(type='RepeatDataset', times=2, dataset=dataset)
    assert count_measured(wrapped, model) == measured * 2 * COUNT


class WithoutInfos(Dataset):
    """Images whose labels are known once they are read."""

    def __init__(self, last: list[int]) -> None:
        self.labels = [*([[0]] * (COUNT - 1)), last]

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = DataSample()
        if self.labels[index]:
            sample.set_gt_label(self.labels[index])
        inputs = torch.zeros(3, 4, 4, dtype=torch.uint8)
        return dict(inputs=inputs, data_samples=sample)


@pytest.mark.parametrize(
    ('last', 'count'), [([1], COUNT), ([0, 1], 0), ([], 0)]
)
def test_labels_are_read_with_the_images_if_there_are_no_data_infos(
    last: list[int], count: int, model: nn.Module
) -> None:
    dataset = dict(type=WithoutInfos, last=last)
    assert count_measured(dataset, model) == count
