# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""MMRazor is imported where an algorithm is used, and nowhere else."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ('module', 'imported'),
    [
        ('reducenet_mm', False),
        ('reducenet_mm.engine', False),
        ('reducenet_mm.engine.preflight', False),
        ('reducenet_mm.export', False),
        ('reducenet_mm.models.algorithms', True),
    ],
)
def test_only_algorithms_import_mmrazor(module: str, imported: bool) -> None:
    code = f"import sys, {module}; print('mmrazor' in sys.modules)"
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(imported)
