# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Tools that ship with MMPretrain and MMRazor, and what they are to find."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from mmpretrain.registry import TRANSFORMS
from torch import Tensor, nn


def stock_tool(package: str, name: str) -> Path:
    """Return the path of a tool that ships with an installed toolbox."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    tool = Path(spec.origin).parent / '.mim' / 'tools' / name
    assert tool.is_file()
    return tool


def pixels_of(config: Path, image: Path) -> Tensor:
    """Return an image as the test pipeline leaves it, (3, H, W) uint8."""
    cfg = Config.fromfile(config)
    found: Any = dict(img_path=str(image))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for transform in cfg.test_dataloader.dataset.pipeline:
            found = TRANSFORMS.build(transform)(found)
    return found['inputs']


def preprocessed(model: Any, pixels: Tensor) -> Tensor:
    """Return a batch of one image as a classifier gets it."""
    batch = default_collate([dict(inputs=pixels)])
    return model.data_preprocessor(batch)['inputs']


def probabilities(model: nn.Module, pixels: Tensor) -> Tensor:
    """Return a classifier's answer to one image, (classes,)."""
    with torch.no_grad():
        return model(preprocessed(model, pixels)).softmax(1)[0]


def activation_map(model: nn.Module, layer: str, pixels: Tensor) -> np.ndarray:
    """Draw Grad-CAM by its definition (Selvaraju et al., ICCV 2017)."""
    kept: dict[str, Tensor] = {}

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        kept['activation'] = output.detach()  # sees what works in place
        output.register_hook(lambda grad: kept.update(grad=grad))

    handle = model.get_submodule(layer).register_forward_hook(keep)
    model(preprocessed(model, pixels)).max().backward()
    handle.remove()
    weights = kept['grad'].mean((2, 3), keepdim=True)
    heat = (weights * kept['activation']).sum(1).relu()[0].numpy()
    heat = (heat - heat.min()) / (heat - heat.min()).max()
    heat = cv2.resize(heat, pixels.shape[:0:-1])
    assert heat.std() > 0.1  # not the same everywhere
    colours = cv2.applyColorMap(np.uint8(255 * heat), cv2.COLORMAP_JET)
    picture = colours + pixels.permute(1, 2, 0).numpy().astype(np.float32)
    return 255 * picture / picture.max()
