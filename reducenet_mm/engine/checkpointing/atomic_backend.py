# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Write checkpoints completely or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

LEFTOVER_SUFFIX = '.partial'
"""Ends the temporary names; one is left behind only by a kill."""


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """Local files that hold either what they held before or all that is new.

    Writes to a temporary name in the same folder, syncs, renames and syncs
    the folder. A kill or a power cut at any moment leaves the file under its
    own name complete. In a config:
    ``default_hooks.checkpoint.backend_args=dict(backend='atomic')``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file; its folder is made if it is not there.

        Args:
            obj: The whole content.
            filepath: The file.

        Raises:
            OSError: If it cannot be written, say because the disk is full;
                no file has changed then.
        """
        path = Path(filepath)
        temporary = path.with_name(
            f'{path.name}.{os.getpid()}{LEFTOVER_SUFFIX}'
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise OSError(
                error.errno,
                f'{path} ({len(obj):,} bytes) could not be written: '
                f'{error.strerror}. Files written before it are intact: free '
                'space or choose another folder (default_hooks.checkpoint.'
                'out_dir), then resume.',
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Write text to a file; see :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove the temporary files of killed runs and return their paths.

    Args:
        folder: Where checkpoints are written, by no other process now.
    """
    leftovers = sorted(Path(folder).glob(f'*{LEFTOVER_SUFFIX}'))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def _sync_folder(folder: Path) -> None:
    """Make the renaming last through a power cut, where that is possible."""
    with suppress(OSError):  # not every system opens folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
