# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Turn a checkpoint of ``ohmydroid/reducenet`` into one of this package."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader
from mmpretrain.registry import MODELS

from reducenet_mm import __version__
from reducenet_mm.compat.published_keys import PublishedNetwork, read_published
from reducenet_mm.engine.preflight import no_side_effects
from reducenet_mm.files import (
    check_folder,
    checkpoint_bytes,
    sha256_file,
    write_atomically,
)
from reducenet_mm.models.checkpoint_checks import check_state_dict

DATASETS = {10: 'cifar10', 100: 'cifar100'}
"""Number of classes -> the published data set, by MMPretrain's base file."""


@dataclass(frozen=True)
class ConversionResult:
    """What was written.

    Attributes:
        weights: The checkpoint.
        config: The config that it fits, beside it.
        network: What the published file turned out to be.
    """

    weights: Path
    config: Path
    network: PublishedNetwork


def convert_published(src: str | Path, dst: str | Path) -> ConversionResult:
    """Write a published checkpoint in our names, and its config beside it.

    The checkpoint holds an ordinary teacher's keys, and both networks. In
    the config ``backbone.scaler`` is that of the published file. The weights
    load strictly into the config's model, or nothing is written.

    Args:
        src: A ``.pth`` file of ``ohmydroid/reducenet``.
        dst: The ``.pth`` file to write; the config gets the suffix ``.py``.

    Raises:
        FileNotFoundError: If ``src`` is not there.
        OSError: If ``dst`` lies in no folder that can be written to.
        ValueError: If ``src`` cannot be read or is not exactly a published
            network with one meaning, or ``dst`` cannot be written to
            without losing a file. Nothing has been written then.
    """
    src, dst = Path(src), Path(dst)
    config_path = _check_paths(src, dst)
    content = _load(src)
    try:
        network = read_published(content)
    except ValueError as error:
        raise ValueError(
            f'{str(src)!r} cannot be converted as a checkpoint of '
            f'ohmydroid/reducenet: {error}. Nothing was written.'
        ) from error
    meta = _meta(src, content, network)
    config = _config(network)
    _check_fit(config['model'], network, src)
    text = _header(meta['provenance']) + Config(config).pretty_text
    checkpoint = checkpoint_bytes(network.state_dict, meta)
    dst.parent.mkdir(parents=True, exist_ok=True)
    write_atomically({dst: checkpoint, config_path: text})
    return ConversionResult(dst, config_path, network)


def _check_paths(src: Path, dst: Path) -> Path:
    """Return the config's path, or raise if a path is not as it must be."""
    if not src.is_file():
        raise FileNotFoundError(
            f'{str(src)!r} is not there, or is no file. Give a .pth file of '
            'ohmydroid/reducenet.'
        )
    if dst.suffix != '.pth':
        raise ValueError(
            f'DST must end in .pth, got {str(dst)!r}: it is the checkpoint '
            'to write, and its config is written beside it.'
        )
    check_folder(dst.parent)
    config = dst.with_suffix('.py')
    for path in (dst, config):
        if path.exists():
            raise ValueError(
                f'{str(path)!r} is there already and is not overwritten. '
                'Remove it or give another DST.'
            )
    return config


def _load(path: Path) -> Any:
    """Read a file onto the CPU without running code from it."""
    try:
        with no_side_effects():
            return CheckpointLoader.load_checkpoint(
                str(path), map_location='cpu'
            )
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f'checkpoint {str(path)!r}: {error}') from error


def _meta(
    src: Path, content: Any, network: PublishedNetwork
) -> dict[str, Any]:
    provenance = dict(
        source='ohmydroid/reducenet',
        checkpoint=src.name,
        sha256=sha256_file(src),
        epoch=content.get('epoch') if 'net' in content else None,
        scaler=network.scaler,
        unused_lora=network.unused_lora,
        reducenet_mm=__version__,
    )
    return dict(provenance=provenance)


def _config(network: PublishedNetwork) -> dict[str, Any]:
    """Return a complete config for the network.

    The published training divides the pixels by 255 and normalises nothing
    else, in every version.
    """
    classes, width = network.num_classes, network.base_channels
    bases = ['default_runtime']
    if classes in DATASETS:
        bases = [
            f'datasets/{DATASETS[classes]}_bs16',
            'schedules/cifar10_bs128',
            *bases,
        ]
    backbone: dict[str, Any] = dict(
        type='ReduceNet',
        depth=network.depth,
        base_channels=width,
        expansion=network.expansion,
        block=network.block,
        scaler=network.scaler,
    )
    if network.lora is not None:
        backbone['lora'] = network.lora
    head = dict(
        type='LinearClsHead',
        num_classes=classes,
        in_channels=4 * width,
        loss=dict(type='CrossEntropyLoss'),
    )
    return dict(
        _base_=[f'mmpretrain::_base_/{base}.py' for base in bases],
        custom_imports=dict(
            imports=['reducenet_mm'], allow_failed_imports=False
        ),
        data_preprocessor=dict(
            num_classes=classes, mean=[0.0] * 3, std=[255.0] * 3
        ),
        model=dict(
            _scope_='mmpretrain',
            type='ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=head,
        ),
    )


def _header(source: dict[str, Any]) -> str:
    return (
        '# A published ReduceNet; its weights are in the .pth file beside '
        'this one.\n'
        f'# Converted by reducenet_mm {source["reducenet_mm"]} from '
        f'{source["checkpoint"]},\n# sha256 {source["sha256"]}\n'
    )


def _check_fit(
    model_cfg: dict[str, Any], network: PublishedNetwork, src: Path
) -> None:
    """Raise ``ValueError`` unless the weights fill the config's model."""
    with no_side_effects(), DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(model_cfg)
    check_state_dict(model, network.state_dict, f'checkpoint {str(src)!r}')
