# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Find the checkpoint in a work dir that was written last and is whole."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from reducenet_mm.compat.checksums import find_damage

_NAME = re.compile(r'(?:epoch|iter)_(\d+)\.pth')


def newest_checkpoint(
    work_dir: str | Path,
    say: Callable[[str], object] = lambda message: None,
    out_dir: str | Path | None = None,
) -> Path | None:
    """Return the intact checkpoint that was written last, if there is any.

    MMEngine's ``last_checkpoint`` file alone may be missing or empty after a
    kill, or name a file that is cut off. So all ``epoch_*.pth`` and
    ``iter_*.pth`` in the folder count too, and each is read through until
    one has all of its checksums.

    Args:
        work_dir: Work dir of a training run.
        say: Is told, in one sentence each, which damaged files are passed
            over.
        out_dir: ``default_hooks.checkpoint.out_dir`` of the run, which then
            has a folder of its own in there. Defaults to None: the
            checkpoints are in the work dir.

    Raises:
        ValueError: If ``out_dir`` is not on this machine; if there are
            checkpoints, and all of them are damaged.
    """
    if out_dir is not None and '://' in str(out_dir):
        raise ValueError(
            f'default_hooks.checkpoint.out_dir={str(out_dir)!r}: checkpoints '
            'are searched for in local folders only. Name the one to resume '
            'from by load_from.'
        )
    candidates = _candidates(Path(work_dir), out_dir)
    for path in candidates:
        if is_intact(path):
            return path
        say(f'{path} is damaged, perhaps cut off by a kill: passed over.')
    if candidates:
        names = ', '.join(path.name for path in candidates)
        raise ValueError(
            f'no checkpoint in {work_dir} can be resumed from: {names} '
            'damaged. Restore one of them from a copy, or remove them to '
            'start anew. A kill damages none with default_hooks.checkpoint.'
            "backend_args=dict(backend='atomic')."
        )
    return None


def _candidates(work_dir: Path, out_dir: str | Path | None) -> list[Path]:
    """Return the run's checkpoints, newest first.

    By the time of writing, not by number: an earlier run in the same folder
    may have gone further.
    """
    folders = [work_dir]
    if out_dir is not None:  # as CheckpointHook puts them
        name = os.path.basename(os.path.abspath(work_dir))
        folders.append(Path(out_dir) / name)
    paths = (path for folder in folders for path in folder.glob('*.pth'))
    found = {path for path in paths if _number(path) >= 0}
    named = named_last(work_dir)
    if named is not None:
        found.add(named)
    return sorted(
        found,
        key=lambda path: (path.stat().st_mtime_ns, _number(path)),
        reverse=True,
    )


def named_last(work_dir: Path) -> Path | None:
    """Return the file that ``last_checkpoint`` names, wherever it is now."""
    try:
        text = (work_dir / 'last_checkpoint').read_text(errors='replace')
    except FileNotFoundError:
        return None
    named = Path(text.strip())
    for path in (work_dir / named.name, named):  # a moved run comes first
        if path.is_file():
            return path
    return None


def _number(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else -1


def is_intact(checkpoint: Path) -> bool:
    """Whether a checkpoint file is whole, by the measure of its loader."""
    return zipfile.is_zipfile(checkpoint) and find_damage(checkpoint) is None
