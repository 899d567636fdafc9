# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Ship the student: plain weights and a plain config, checked first."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import CheckpointLoader
from mmpretrain.registry import DATASETS, MODELS
from torch import Tensor, nn

from reducenet_mm import __version__
from reducenet_mm.engine.preflight import no_side_effects, read_weights
from reducenet_mm.models.backbones.reduce_blocks import absorb_conv_biases
from reducenet_mm.models.checkpoint_views import (
    ARCHITECTURE,
    check_state_dict,
    is_distill_state_dict,
)
from reducenet_mm.models.supernet import set_scaler, ungraft

from .files import sha256_file, write_atomically
from .parity import check_parity, largest_difference, parity_images
from .plain_config import plain_config, plain_model_cfg, supernet_cfg

TOLERANCE = 1e-10
"""Largest accepted difference of float64 logits."""


@dataclass(frozen=True)
class ExportResult:
    """What was written, and how it was checked.

    Attributes:
        weights: The written ``student.pth``.
        config: The written ``student.py``.
        largest_difference: Of the float64 logits of the plain network and
            the supernet at scaler 0, before anything is rounded.
        rounding: Largest change of the logits by rounding what was merged;
            0 if nothing had to merge.
        images: What they were compared on: ``'validation'`` or
            ``'random'`` images.
        num_images: How many of them.
        params: Number of the plain network's parameters.
    """

    weights: Path
    config: Path
    largest_difference: float
    rounding: float
    images: str
    num_images: int
    params: int


def export_student(
    config: str | Path | Config,
    checkpoint: str | Path,
    out_dir: str | Path,
    tolerance: float = TOLERANCE,
) -> ExportResult:
    """Write ``student.pth`` and ``student.py`` into ``out_dir``.

    Both are checked before anything is written: the weights load strictly
    into a network without branches, which answers as the supernet does.
    What merges is merged in float64 and then rounded to the precision of
    the plain network.

    Args:
        config: The config with which ``checkpoint`` was trained.
        checkpoint: A teacher's or a distillation checkpoint.
        out_dir: Folder to write to; created if it is not there.
        tolerance: Largest accepted difference of float64 logits.

    Raises:
        FileNotFoundError: If ``checkpoint`` is not there.
        ValueError: If it cannot be read or does not fit ``config``, or
            ``config`` has no ReduceNet, or a norm that cannot absorb what
            merging leaves.
        ParityError: If the plain network is not the same function.
            Whatever is raised, nothing has been written.
    """
    if not isinstance(config, Config):
        config = Config.fromfile(config)
    weights = read_weights(str(checkpoint))
    source = f'checkpoint {str(checkpoint)!r}'
    with no_side_effects(), DefaultScope.overwrite_default_scope('mmpretrain'):
        supernet = MODELS.build(supernet_cfg(config))
        state = _supernet(weights)
        check_state_dict(supernet, state, source)
        supernet.load_state_dict(state)
        set_scaler(supernet, 0.0)
        plain = MODELS.build(plain_model_cfg(config))
        exact = copy.deepcopy(plain).double()
        exact.load_state_dict(_student(supernet))
        plain.load_state_dict(exact.state_dict())
        stored = {key: val.clone() for key, val in plain.state_dict().items()}
        images, kind = parity_images(config, plain)
        difference = largest_difference(supernet, exact, images)
        check_parity(difference, tolerance)
        rounding = largest_difference(exact, plain, images)
        meta = _meta(config, checkpoint)
        meta['parity'] = dict(
            largest_difference=difference,
            rounding=rounding,
            images=kind,
            count=len(images),
        )
        text = _header(meta) + plain_config(config).pretty_text
    paths = _write(Path(out_dir), stored, meta, text)
    params = sum(param.numel() for param in plain.parameters())
    return ExportResult(
        *paths, difference, rounding, kind, len(images), params
    )


def _supernet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the supernet's keys with the student's values."""
    if not is_distill_state_dict(weights):
        return dict(weights)
    return {
        key[len(ARCHITECTURE) :]: value
        for key, value in weights.items()
        if key.startswith(ARCHITECTURE)
    }


def _student(supernet: nn.Module) -> dict[str, Tensor]:
    """Return the plain network's tensors, what merged in float64."""
    merged = ungraft(copy.deepcopy(supernet).double())
    return absorb_conv_biases(merged.state_dict())


def _meta(config: Config, checkpoint: str | Path) -> dict[str, Any]:
    loaded = CheckpointLoader.load_checkpoint(
        str(checkpoint), map_location='cpu'
    )
    source_meta = loaded.get('meta') or {}
    classes = (source_meta.get('dataset_meta') or {}).get('classes')
    if classes is None:
        classes = _classes_of_data(config)
    names = None if classes is None else [str(name) for name in classes]
    return dict(
        classes=names,
        dataset_meta={} if names is None else dict(classes=names),
        provenance=dict(
            checkpoint=Path(checkpoint).name,
            sha256=sha256_file(checkpoint),
            epoch=source_meta.get('epoch'),
            reducenet_mm=__version__,
        ),
    )


def _classes_of_data(config: Config) -> Any:
    dataset_cfg = (config.get('val_dataloader') or {}).get('dataset') or {}
    while isinstance(dataset_cfg.get('dataset'), Mapping):
        dataset_cfg = dataset_cfg['dataset']
    if 'type' not in dataset_cfg:
        return None
    found = DATASETS.get(dataset_cfg['type'])
    return getattr(found, 'METAINFO', {}).get('classes')


def _header(meta: Mapping[str, Any]) -> str:
    source = meta['provenance']
    return (
        '# The plain student network; its weights are student.pth beside '
        'this file.\n'
        f'# Exported by reducenet_mm {source["reducenet_mm"]} from '
        f'{source["checkpoint"]},\n# sha256 {source["sha256"]}\n'
    )


def _write(
    out_dir: Path,
    state: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    config_text: str,
) -> tuple[Path, Path]:
    buffer = io.BytesIO()
    weights = {key: value.clone() for key, value in state.items()}
    torch.save(dict(meta=dict(meta), state_dict=weights), buffer)
    out_dir.mkdir(parents=True, exist_ok=True)
    weights_path, config_path = out_dir / 'student.pth', out_dir / 'student.py'
    write_atomically(
        {weights_path: buffer.getvalue(), config_path: config_text}
    )
    return weights_path, config_path
