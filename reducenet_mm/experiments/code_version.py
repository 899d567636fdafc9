# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which code a result is from: packages, and the commit checked out.

For pipelines, campaigns, kill tests and benchmarks.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import reducenet_mm

FOLDERS = ('configs', 'reducenet_mm', 'tools', 'tests/test_tools/kill_modes')
"""What of a checkout can change a result."""

PACKAGES = (
    'torch',
    'torchvision',
    'numpy',
    'mmengine',
    'mmpretrain',
    'mmrazor',
)


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


def commit_text(code: Mapping[str, Any] | None) -> str:
    """Return which commit a version of the code is of; None: unknown."""
    if code is None:
        return 'unknown'
    commit = code['commit'] or 'no git checkout'
    return f'{commit} with uncommitted changes' if code['dirty'] else commit


def packages_text(packages: Mapping[str, str]) -> str:
    """Return packages and their versions in one line."""
    return ', '.join(f'{name} {number}' for name, number in packages.items())


def versions() -> dict[str, str]:
    """Return the versions of Python and of all packages that matter."""
    found = dict(
        python=platform.python_version(),
        reducenet_mm=reducenet_mm.__version__,
    )
    for name in PACKAGES:
        found[name] = _version(name)
    for name in ('mmcv', 'mmcv-lite'):
        if _version(name) != 'missing':
            found[name] = _version(name)
    return found


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


def _version(package: str) -> str:
    if package == 'torch':
        return torch.__version__  # with its build, unlike the metadata
    try:
        return version(package)
    except PackageNotFoundError:
        return 'missing'
