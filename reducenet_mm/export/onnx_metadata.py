# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What an ONNX model says of itself: how to feed it, and whence it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

from reducenet_mm.files import json_text

from .plain_config import plain_config
from .plain_data import unscoped


def onnx_metadata(
    config: Config, meta: Mapping[str, Any], size: Sequence[int]
) -> dict[str, str]:
    """Return the metadata of a student's ONNX model, each as JSON.

    Args:
        config: The config with which the checkpoint was trained.
        meta: The ``meta`` of the student's checkpoint.
        size: Channels, height and width of the model's images, in pixels.

    Returns:
        Text by name: ``mean``, ``std`` (of pixels from 0 to 255, one for
        each channel; 0 and 1 if they are not normalised), ``to_rgb``,
        ``channel_order``, ``input_size``, ``pipeline`` (transforms of
        MMPretrain's before that), ``classes`` and where the weights are
        from.
    """
    plain = plain_config(config)
    channels, *_ = size
    settings = plain.get('data_preprocessor') or {}
    mean, std = settings.get('mean'), settings.get('std')
    dataset = (plain.get('test_dataloader') or {}).get('dataset') or {}
    pipeline = dataset.get('pipeline')
    to_rgb = bool(settings.get('to_rgb', False))
    found = dict(
        mean=[0.0] * channels if mean is None else list(mean),
        std=[1.0] * channels if std is None else list(std),
        to_rgb=to_rgb,
        channel_order=_channel_order(channels, to_rgb, pipeline or ()),
        input_size=list(size),
        pipeline=json.loads(json.dumps(pipeline, default=str)),
        classes=meta['classes'],
        **meta['provenance'],
    )
    return {key: json_text(value) for key, value in found.items()}


def _channel_order(
    channels: int, to_rgb: bool, pipeline: Sequence[Mapping[str, Any]]
) -> str:
    """Return the order in which the network takes its channels.

    MMPretrain loads files as BGR. Data sets of arrays, such as CIFAR's, have
    an order of their own.
    """
    if channels == 1:
        return 'grey'
    loads = [unscoped(one.get('type')) for one in pipeline[:1]]
    if channels != 3 or loads != ['LoadImageFromFile']:
        return 'as the data set of the training has it'
    return 'RGB' if to_rgb else 'BGR'
