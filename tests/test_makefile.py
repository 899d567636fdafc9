# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What `make` must not do to folders that are not ours."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.skipif(shutil.which('make') is None, reason='needs make')
def test_a_path_with_a_space_is_refused_before_anything(tmp_path: Path):
    """Else it makes an environment at the part before the space."""
    folder = tmp_path / 'a b'
    folder.mkdir()
    shutil.copy('Makefile', folder)
    active = ('VIRTUAL_ENV', 'CONDA_PREFIX')
    done = subprocess.run(
        ['make', 'demo'],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in active},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 2
    assert f"The path of the environment, '{folder}/.venv'" in done.stderr
    assert [path.name for path in folder.iterdir()] == ['Makefile']
    assert [path.name for path in tmp_path.iterdir()] == ['a b']
