# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Files that are either written completely or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(files: Mapping[Path, bytes | str]) -> None:
    """Write to temporary names beside the files, sync, then rename all.

    Whoever reads a file meanwhile, or after a kill, sees either what it
    held before or all of its new content.

    Args:
        files: Content by path; text is written as UTF-8.

    Raises:
        OSError: If a folder cannot be written or the disk is full; no file
            has changed then.
    """
    temporary = {
        path: path.with_name(f'{path.name}.{os.getpid()}.tmp')
        for path in files
    }
    try:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            with open(temporary[path], 'wb') as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, written in temporary.items():
            os.replace(written, path)
    finally:
        for written in temporary.values():
            written.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, allow_nan=False)
    write_atomically({Path(path): text + '\n'})
