# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A published checkpoint, run by its author's code and by ours."""

from __future__ import annotations

import importlib.util
import tempfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import PILToTensor

from reducenet_mm.compat.published_keys import PublishedNetwork, unwrap
from reducenet_mm.engine.preflight import no_side_effects
from reducenet_mm.export.parity import largest_difference
from reducenet_mm.export.published import convert_published
from reducenet_mm.files import sha256_file

BATCH = 250
NETWORK, BLOCK = 'ReduceNet', 'BasicBlock'
RANDOM_IMAGES = 64
SIZE = (32, 32)


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
    loader = SourceFileLoader('published_code', str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    try:
        loader.exec_module(module)
    except Exception as error:
        raise ValueError(
            f'CODE={str(path)!r} does not run: {error}. Give '
            'models/reducenet.py of another commit.'
        ) from error
    for name in (NETWORK, BLOCK):
        if not hasattr(module, name):
            raise ValueError(
                f'CODE={str(path)!r} defines no {name}. Give '
                'models/reducenet.py of ohmydroid/reducenet.'
            )
    return module


def compare_published(
    code: ModuleType,
    checkpoint: str | Path,
    images: str | Path | None = None,
    every: int = 1,
) -> dict[str, Any]:
    """Compare logits of a published network and of the converted one.

    In double precision, so that what differs is not rounding. Inputs are
    ``(N, 3, H, W)``, the random ones 32x32, and logits ``(N, classes)``.

    Args:
        code: See :func:`load_code`.
        checkpoint: A published ``.pth`` file.
        images: Folder of folders of images, one for each class in
            alphabetical order; None for random inputs only.
        every: Take only every so-many-th image.

    Returns:
        ``checkpoint``, ``sha256`` and ``network`` (what was found);
        ``max_difference`` of logits by ``random`` and ``images``, relative
        to the largest logit (NaN if one is no finite number); and of
        images how many there are (``images``) and how many are classified
        rightly (``right``) by ``published`` and ``ours``.

    Raises:
        FileNotFoundError: If a file or folder is not there.
        ValueError: If the checkpoint cannot be converted, is not of this
            version of the code, or is for other classes than the images.
    """
    path = Path(checkpoint)
    dataset = None if images is None else _read_images(images)
    with tempfile.TemporaryDirectory() as folder:
        converted = convert_published(path, Path(folder) / 'ours.pth')
        ours = _build_ours(converted.config, converted.weights)
    found = converted.network
    published = _build_published(code, found, path)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(RANDOM_IMAGES, 3, *SIZE, generator=generator)
    noise = noise.double()
    result: dict[str, Any] = dict(
        checkpoint=path.name,
        sha256=sha256_file(path),
        network=dict(
            block=found.block,
            depth=found.depth,
            base_channels=found.base_channels,
            expansion=found.expansion,
            scaler=found.scaler,
        ),
    )
    with torch.no_grad():
        apart = {'random': largest_difference(published(noise), ours(noise))}
        if dataset is not None:
            if len(dataset.classes) != found.num_classes:
                raise ValueError(
                    f'--images {str(images)!r} has {len(dataset.classes)} '
                    f'folders, but {path.name} knows {found.num_classes} '
                    'classes. Name the folder that holds one for each.'
                )
            taken = Subset(dataset, range(0, len(dataset), every))
            apart['images'], right = _on_images(published, ours, taken)
            result.update(images=len(taken), right=right)
    return dict(result, max_difference=apart)


def _read_images(folder: str | Path) -> ImageFolder:
    if not Path(folder).is_dir():
        raise FileNotFoundError(f'--images {str(folder)!r} is no folder.')
    return ImageFolder(str(folder), transform=PILToTensor())


def _build_ours(config: Path, weights: Path) -> nn.Module:
    cfg = Config.fromfile(str(config))
    model_cfg = dict(cfg.model, data_preprocessor=cfg.data_preprocessor)
    with no_side_effects(), DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(model_cfg)
    content = torch.load(weights, map_location='cpu', weights_only=True)
    model.load_state_dict(content['state_dict'])
    return model.double().eval()


def _build_published(
    code: ModuleType, found: PublishedNetwork, path: Path
) -> nn.Module:
    content = torch.load(path, map_location='cpu', weights_only=True)
    blocks = [(found.depth - 2) // 6] * 3
    try:
        network = getattr(code, NETWORK)(
            getattr(code, BLOCK),
            blocks,
            found.num_classes,
            found.base_channels // 16,
            found.expansion,
        )
        network.load_state_dict(unwrap(content))
    except Exception as error:  # whatever the code of another time raises
        text = ' '.join(str(error).split())
        raise ValueError(
            f'{str(path)!r} is not of this version of CODE ({text[:200]}). '
            'Give models/reducenet.py of the commit that wrote it.'
        ) from error
    return network.double().eval()


def _on_images(
    published: nn.Module, ours: Any, dataset: Dataset
) -> tuple[float, dict[str, int]]:
    """Return how far logits are apart, and how many are right.

    Ours gets the pixels through the converted config's preprocessor, the
    published network as its training did: from 0 to 1.
    """
    logits: dict[str, list[Tensor]] = dict(published=[], ours=[])
    labels = []
    for pixels, numbers in DataLoader(dataset, BATCH):
        batch = ours.data_preprocessor(dict(inputs=pixels))['inputs']
        logits['published'].append(published(pixels.double() / 255))
        logits['ours'].append(ours(batch.double()))
        labels.append(numbers)
    answers = {name: torch.cat(parts) for name, parts in logits.items()}
    right = {
        name: int((answer.argmax(1) == torch.cat(labels)).sum())
        for name, answer in answers.items()
    }
    apart = largest_difference(answers['published'], answers['ours'])
    return apart, right
