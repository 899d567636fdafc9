# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A published checkpoint by its authors' own code, and by ours."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from reducenet_mm.compat.published_keys import PublishedNetwork
from reducenet_mm.engine.preflight import no_side_effects
from reducenet_mm.export.published import convert_published
from reducenet_mm.files import sha256_file

BATCH = 250
NETWORK, BLOCK = 'ReduceNet', 'BasicBlock'
RANDOM_IMAGES = 64


def load_code(path: str | Path) -> ModuleType:
    """Run a file of the published code, ``models/reducenet.py``.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it does not define the published network.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'CODE={str(path)!r} is not there, or is no file. Give '
            'models/reducenet.py of ohmydroid/reducenet.'
        )
    spec = importlib.util.spec_from_file_location('published_code', path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(
            f'CODE={str(path)!r} does not run: {error}'
        ) from error
    for name in (NETWORK, BLOCK):
        if not hasattr(module, name):
            raise ValueError(
                f'CODE={str(path)!r} defines no {name}. Give '
                'models/reducenet.py of ohmydroid/reducenet.'
            )
    return module


def compare_published(
    code: ModuleType, checkpoint: str | Path, images: str | Path | None = None
) -> dict[str, Any]:
    """Compare outputs of a published network and of the converted one.

    Args:
        code: See :func:`load_code`.
        checkpoint: A published ``.pth`` file.
        images: Folder of folders, one for each class in alphabetical order;
            None for random images only.

    Returns:
        ``checkpoint``, ``sha256`` and ``network`` (what was found);
        ``max_difference`` of logits by ``random`` and ``images``; and
        ``top1``, in percent, by ``published`` and ``ours``.

    Raises:
        FileNotFoundError: If a file or folder is not there.
        ValueError: If the checkpoint cannot be converted, or is not of this
            version of the code.
    """
    path = Path(checkpoint)
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f'--images {str(images)!r} is no folder.')
    with tempfile.TemporaryDirectory() as folder:
        converted = convert_published(path, Path(folder) / 'ours.pth')
        ours = _build_ours(converted.config, converted.weights)
    found = converted.network
    published = _build_published(code, found, path)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(RANDOM_IMAGES, 3, 32, 32, generator=generator)
    with torch.no_grad():
        apart = {'random': _apart(published(noise), ours(noise))}
        top1: dict[str, float] = {}
        if images is not None:
            apart['images'], top1 = _on_images(published, ours, images)
    return dict(
        checkpoint=path.name,
        sha256=sha256_file(path),
        network=dict(
            block=found.block,
            depth=found.depth,
            base_channels=found.base_channels,
            expansion=found.expansion,
            scaler=found.scaler,
        ),
        max_difference=apart,
        top1=top1,
    )


def _build_ours(config: Path, weights: Path) -> nn.Module:
    cfg = Config.fromfile(str(config))
    with no_side_effects(), DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    content = torch.load(weights, map_location='cpu', weights_only=True)
    model.load_state_dict(content['state_dict'])
    return model.eval()


def _build_published(
    code: ModuleType, found: PublishedNetwork, path: Path
) -> nn.Module:
    content = torch.load(path, map_location='cpu', weights_only=True)
    state: Mapping[str, Tensor] = content.get('net', content)
    blocks = [(found.depth - 2) // 6] * 3
    try:
        network = getattr(code, NETWORK)(
            getattr(code, BLOCK),
            blocks,
            found.num_classes,
            found.base_channels // 16,
            found.expansion,
        )
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        text = ' '.join(str(error).split())
        raise ValueError(
            f'{str(path)!r} is not of this version of CODE ({text[:200]}). '
            'Give models/reducenet.py of the commit that wrote it.'
        ) from error
    return network.eval()


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def _on_images(
    published: nn.Module, ours: nn.Module, folder: str | Path
) -> tuple[float, dict[str, float]]:
    """Return how far logits are apart, and accuracies in percent."""
    dataset = ImageFolder(str(folder), transform=ToTensor())
    apart, right = 0.0, torch.zeros(2)
    for inputs, labels in DataLoader(dataset, BATCH):
        logits = published(inputs), ours(inputs)
        apart = max(apart, _apart(*logits))
        right += torch.stack([(x.argmax(1) == labels).sum() for x in logits])
    percent = (100 * right / len(dataset)).tolist()
    return apart, dict(zip(('published', 'ours'), percent, strict=True))
