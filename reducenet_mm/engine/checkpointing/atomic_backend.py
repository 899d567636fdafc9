# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Write checkpoints completely or not at all."""

from __future__ import annotations

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from reducenet_mm.files import write_atomically


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
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically({path: obj})
        except OSError as error:
            raise OSError(
                error.errno,
                f'{path} ({len(obj):,} bytes) could not be written: '
                f'{error.strerror}. Files written before it are intact: free '
                'space or choose another folder (default_hooks.checkpoint.'
                'out_dir), then resume.',
            ) from error

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Write text to a file; see :meth:`put`."""
        self.put(obj.encode(encoding), filepath)
