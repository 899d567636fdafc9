# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Refuse checkpoint files whose bits have flipped.

Reason: ``torch.save`` stores a checksum with each record, but ``torch.load``
never looks at it: a flipped bit in a tensor is loaded without a word.
Versions: torch 2.14 at least; earlier ones are not known to differ.

MMEngine's loader of local files checks them first, so that resuming,
``load_from``, ``teacher_ckpt`` and ``init_cfg`` all do. It is one more read
of the file.
"""

from __future__ import annotations

import functools
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from mmengine.runner import CheckpointLoader

_MAGIC = b'PK\x03\x04'
_FOLDER = 0x10
_DAMAGE = (
    EOFError,
    OSError,
    RuntimeError,  # flipped bits that ask for a password or a compression
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def install_checksums() -> None:
    """Let MMEngine's loader of local files check them first.

    A second call changes nothing.
    """
    load = CheckpointLoader._get_checkpoint_loader('')
    if not hasattr(load, '_reducenet_mm'):
        CheckpointLoader.register_scheme('', _checked(load), force=True)


def find_damage(path: str | os.PathLike[str]) -> str | None:
    """Read a checkpoint file through and say what is damaged.

    Args:
        path: A file that is there.

    Returns:
        The first damage, or ``None`` if there is none that shows: if all
        records have their checksums, or the file has no checksums (torch's
        format before 1.6, or ``set_crc32_options(False)``).
    """
    with open(path, 'rb') as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            # Torch would hand out uninitialised memory for it.
            folders = [r for r in records if r.external_attr & _FOLDER]
            if folders:
                return f'record {folders[0].filename} is marked as a folder'
            if not any(record.CRC for record in records):
                return None
            name = archive.testzip()
    except _DAMAGE as error:
        return f'{type(error).__name__}: {error}'
    return None if name is None else f'record {name} has another checksum'


def _checked(load: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap MMEngine's loader; it keeps its name, which is logged."""

    @functools.wraps(load)
    def load_checked(filename: str, map_location: Any) -> Any:
        path = os.path.expanduser(filename)
        damage = find_damage(path) if os.path.isfile(path) else None
        if damage is not None:
            raise RuntimeError(
                f'{path} is no readable checkpoint: it is truncated or '
                f'damaged ({damage}). Copy, download or train it again.'
            )
        return load(filename, map_location)

    load_checked._reducenet_mm = True  # type: ignore[attr-defined]
    return load_checked
