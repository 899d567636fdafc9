# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Files that are either written completely or not at all.

Checkpoints, exported networks and reports are all written here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


LEFTOVER_SUFFIX = '.partial'
"""Ends the temporary names; one is left behind only by a kill."""


def write_atomically(
    files: Mapping[Path, bytes | str], remove: Iterable[Path] = ()
) -> None:
    """Write to temporary names beside the files, sync, then rename each.

    Whoever reads a file meanwhile, or after a kill or a power cut, sees
    either what it held before or all of its new content. A kill between two
    renames leaves new files beside old ones.

    Args:
        files: Content by path; text is written as UTF-8.
        remove: Files, maybe not there, that would not go with the new ones:
            they go before the first new one comes.

    Raises:
        OSError: If a folder cannot be written or the disk is full; no file
            has changed then, unless it was a renaming that failed.
    """
    temporary = {
        path: path.with_name(f'{path.name}.{os.getpid()}{LEFTOVER_SUFFIX}')
        for path in files
    }
    try:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            with open(temporary[path], 'wb') as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path in remove:
            path.unlink(missing_ok=True)
        for path, written in temporary.items():
            os.replace(written, path)
    finally:
        for written in temporary.values():
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)
    for folder in {path.parent for path in files}:
        _sync_folder(folder)


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove the temporary files of killed processes and return their paths.

    Args:
        folder: Where no other process writes now.
    """
    leftovers = sorted(Path(folder).glob(f'*{LEFTOVER_SUFFIX}'))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def _sync_folder(folder: Path) -> None:
    """Make the renaming last through a power cut, where that is possible."""
    with contextlib.suppress(OSError):  # not every system opens folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_folder(
    folder: str | Path,
    files: Mapping[str, bytes | str],
    obsolete: Collection[str] = (),
) -> dict[str, Path]:
    """Write files that belong together into one folder.

    Args:
        folder: Created if it is not there.
        files: Content by name.
        obsolete: Names of files that an earlier writing may have left there
            and that would not go with the new ones: they are removed.

    Returns:
        Path by name.

    Raises:
        OSError: As by :func:`write_atomically`; no folder is left behind
            that was not there.
    """
    folder = Path(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    paths = {name: folder / name for name in files}
    for path in paths.values():
        if path.is_dir():
            raise IsADirectoryError(
                f'{str(path)!r} is a folder, and a file is to be written '
                'there. Remove it, or give another folder.'
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(
            {paths[name]: files[name] for name in files},
            [folder / name for name in set(obsolete) - set(files)],
        )
    except OSError:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise
    return paths


def checkpoint_bytes(
    state: Mapping[str, Tensor], meta: Mapping[str, Any]
) -> bytes:
    """Return a checkpoint of tensors and plain values, as bytes."""
    buffer = io.BytesIO()
    weights = {key: value.clone() for key, value in state.items()}
    torch.save(dict(meta=dict(meta), state_dict=weights), buffer)
    return buffer.getvalue()


def json_text(value: Any) -> str:
    """Return ``value`` as indented JSON, without NaN."""
    return json.dumps(value, indent=2, allow_nan=False) + '\n'


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; make its folder."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically({Path(path): json_text(value)})


def check_file(path: str | Path) -> None:
    """Raise unless a file can be written, in a folder that may be missing.

    Raises:
        OSError: If ``path`` is a folder, or its folder cannot be written to.
    """
    with _names_of_files(path):
        if Path(path).is_dir():
            raise IsADirectoryError(
                f'{str(path)!r} is a folder; give a file to write.'
            )
    check_folder(Path(path).parent)


def check_folder(path: str | Path) -> None:
    """Raise unless files can be written into a folder, or it be created.

    Raises:
        OSError: If ``path`` is a file, or cannot be written to.
    """
    folder = Path(path)
    there = folder.absolute()
    with _names_of_files(path):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(
                f'{str(path)!r} is a file; give a folder to write to.'
            )
        while not there.exists() and not there.is_symlink():
            there = there.parent
    if not there.is_dir():
        what = 'a link to nowhere' if there.is_symlink() else 'a file'
        raise NotADirectoryError(
            f'cannot write to {str(path)!r}: {str(there)!r} is {what}.'
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(
            f'cannot write to {str(path)!r}: no permission in {str(there)!r}.'
        )


@contextlib.contextmanager
def _names_of_files(path: str | Path) -> Iterator[None]:
    """Say of a path that can be none, as if too long, that it is not there."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
            raise
        raise FileNotFoundError(
            f'cannot write to {str(path)!r}: {error}. Give a shorter or a '
            'plainer name.'
        ) from error
