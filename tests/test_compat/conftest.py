# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_python(tmp_path) -> Callable[..., 'CompletedProcess[str]']:
    """Run code in a fresh interpreter; its options come after the code."""

    def run(code: str, *options: str, **env: str) -> 'CompletedProcess[str]':
        return subprocess.run(
            [sys.executable, *options, '-c', code],
            cwd=tmp_path,
            env={
                **os.environ,
                'PYTHONPATH': str(ROOT),
                'PYTHONWARNINGS': 'ignore',
                'OMP_NUM_THREADS': '1',
                **env,
            },
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run
