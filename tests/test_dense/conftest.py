# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Skip all of this folder where the dense toolboxes are not installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from .distillation import KINDS, Trained, train

NEEDED = {
    'mmcv._ext': 'the ops of mmcv',
    'mmdet': 'MMDetection',
    'mmseg': 'MMSegmentation',
}
ABSENT = [text for name, text in NEEDED.items() if find_spec(name) is None]


class Skipped(pytest.Module):
    """A module that is not even imported."""

    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(
            f'{", ".join(ABSENT)} not installed: run `make test-dense`',
            allow_module_level=True,
        )


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    if not ABSENT:
        return None
    return Skipped.from_parent(parent, path=module_path)


@pytest.fixture(scope='session', params=KINDS)
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """A detector and a segmentor, after a training of four steps."""
    return train(request.param, tmp_path_factory.mktemp(request.param))
