# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Where an exported student is from, and what its classes are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS
from mmengine.runner.checkpoint import CheckpointLoader

from reducenet_mm import __version__
from reducenet_mm.datasets.wrapped import innermost
from reducenet_mm.engine.preflight.model_keys import resolve
from reducenet_mm.engine.toolbox import scope_of
from reducenet_mm.files import sha256_file


def checkpoint_meta(config: Config, checkpoint: str | Path) -> dict[str, Any]:
    """Return the ``meta`` of the student's checkpoint.

    Args:
        config: The config with which ``checkpoint`` was trained.
        checkpoint: A teacher's or a distillation checkpoint.
    """
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
    dataset_cfg = innermost(dataset_cfg)[0]
    if 'type' not in dataset_cfg:
        return None
    # In MMPretrain's order.
    own = (dataset_cfg.get('metainfo') or {}).get('classes')
    own = own or dataset_cfg.get('classes')
    if isinstance(own, str):  # a file with one name a line
        path = Path(own).expanduser()
        return list_from_file(path) if path.is_file() else None
    if own is not None:
        return own
    found = resolve(dataset_cfg['type'], scope_of(config), (DATASETS,))
    return getattr(found, 'METAINFO', {}).get('classes')


def header_of(meta: Mapping[str, Any]) -> str:
    """Return the comment that begins the student's config."""
    source = meta['provenance']
    return (
        '# The plain student network; its weights lie beside this file.\n'
        f'# Exported by reducenet_mm {source["reducenet_mm"]} from '
        f'{source["checkpoint"]},\n# sha256 {source["sha256"]}\n'
    )
