# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which code a result is from."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import reducenet_mm

from ..results import versions

FOLDERS = ('configs', 'reducenet_mm', 'tools', 'tests/test_tools/kill_modes')
"""What of a checkout can change a result."""


def code_version() -> dict[str, Any]:
    """Return package versions and, in a git checkout, what is checked out.

    Returns:
        ``packages`` by name; ``commit`` (None outside a checkout) and
        ``dirty``: whether the code differs from it.
    """
    root = Path(reducenet_mm.__file__).parents[1]
    commit = status = None
    if (root / '.git').exists():
        commit = _git(root, 'rev-parse', 'HEAD')
        status = _git(root, 'status', '--porcelain', '--', *FOLDERS)
    return dict(packages=versions(), commit=commit, dirty=bool(status))


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ['git', '-C', str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
