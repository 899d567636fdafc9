# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A run in mixed precision goes on with the loss scale that it had."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim.optimizer import amp_optimizer_wrapper

from tests.test_engine.test_exact_resume import (
    MID_EPOCH,
    assert_same_end,
    last,
    train,
)

INIT_SCALE = 2.0**127
"""So large that the first steps overflow, and are left out."""
OPTIONS: dict[str, Any] = {
    **MID_EPOCH,
    'optim_wrapper.type': 'AmpOptimWrapper',
    'optim_wrapper.dtype': 'bfloat16',
    'optim_wrapper.loss_scale': dict(init_scale=INIT_SCALE, growth_interval=3),
    # Gradients that overflow again whenever the scale has grown.
    'model.head.loss.loss_weight': 100.0,
    'optim_wrapper.optimizer.lr': 5e-4,
}
START = dict(scale=INIT_SCALE, _growth_tracker=0)


@pytest.fixture(scope='module')
def patch() -> Iterator[None]:
    """Let MMEngine's wrapper and PyTorch's scaler work on a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            scaler = partial(torch.amp.GradScaler, 'cpu')
            patch.setattr(amp_optimizer_wrapper, 'GradScaler', scaler)
            patch.setattr(
                amp_optimizer_wrapper, 'is_cuda_available', lambda: True
            )
        yield


@pytest.fixture(scope='module')
def whole(patch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work dir of a run that was not interrupted."""
    work_dir = tmp_path_factory.mktemp('whole')
    train(work_dir, None, OPTIONS)
    return work_dir


def loss_scaler(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return checkpoint['optimizer']['loss_scaler']


def test_the_loss_scale_is_resumed(whole: Path, tmp_path: Path) -> None:
    saved = whole / 'iter_12.pth'
    state = loss_scaler(torch.load(saved))
    assert all(state[key] != value for key, value in START.items())
    train(tmp_path, saved, OPTIONS)
    one, other = last(whole), last(tmp_path)
    assert_same_end(one, other)
    assert loss_scaler(one) == loss_scaler(other)


@pytest.mark.parametrize('key', START)
def test_without_it_the_end_would_be_another(
    whole: Path, tmp_path: Path, key: str
) -> None:
    checkpoint = torch.load(whole / 'iter_12.pth')
    loss_scaler(checkpoint)[key] = START[key]
    torch.save(checkpoint, tmp_path / 'changed.pth')
    train(tmp_path / 'run', tmp_path / 'changed.pth', OPTIONS)
    one, other = last(whole), last(tmp_path / 'run')
    name = 'backbone.conv1.weight'
    assert not torch.equal(one['state_dict'][name], other['state_dict'][name])
