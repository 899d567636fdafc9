# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Early stopping comes at the same epoch, whether resumed or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

CONFIG = 'configs/reducenet/digits/reducenet8-w16-e4_digits_teacher.py'
STOP = dict(
    type='ResumableEarlyStoppingHook',
    monitor='accuracy/top1',
    min_delta=1000,  # no validation is an improvement of the first one
    patience=3,
)


def train(
    work_dir: Path,
    hook: dict,
    checkpoint: Path | None = None,
    **options: Any,
) -> int:
    """Train for at most 8 epochs; return after how many it has stopped."""
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(
        {
            'work_dir': str(work_dir),
            'experiment_name': f'{work_dir.parent.name}_{work_dir.name}',
            'model.backbone.base_channels': 4,
            'model.backbone.expansion': 2,
            'model.head.in_channels': 16,
            'train_cfg.max_epochs': 8,
            'train_cfg.val_interval': 1,
            'param_scheduler.periods': [8],
            'train_dataloader.batch_size': 256,
            'default_hooks.checkpoint.interval': 1,
            'default_hooks.checkpoint.max_keep_ckpts': -1,
            'custom_hooks': [hook],
            **options,
        }
    )
    if checkpoint is not None:
        cfg.load_from, cfg.resume = str(checkpoint), True
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner.epoch


def warnings(work_dir: Path) -> int:
    """Count the warnings of hooks that keep nothing, before any step."""
    (log,) = work_dir.glob('*/*.log')
    before, _, after = log.read_text().partition('Epoch(train)')
    warning = 'WARNING - EarlyStoppingHook keeps nothing in checkpoints'
    assert warning not in after
    return before.count(warning)


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work dir of a run that was stopped early, but not interrupted."""
    work_dir = tmp_path_factory.mktemp('whole')
    assert train(work_dir, STOP) == 4  # 1 to be compared with, 3 to wait
    assert warnings(work_dir) == 0
    return work_dir


@pytest.mark.parametrize('epoch', [1, 3, 4])
def test_a_resumed_run_stops_where_the_run_itself_did(
    whole: Path, tmp_path: Path, epoch: int
) -> None:
    checkpoint = whole / f'epoch_{epoch}.pth'
    assert train(tmp_path, STOP, checkpoint) == 4
    if epoch < 4:
        one, other = (
            torch.load(folder / 'epoch_4.pth')['state_dict']
            for folder in (whole, tmp_path)
        )
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_state_is_that_before_the_validation(whole: Path) -> None:
    state = torch.load(whole / 'epoch_3.pth')['early_stopping']
    first = torch.load(whole / 'epoch_1.pth')['early_stopping']
    assert first['accuracy/top1'] == dict(
        best_score=float('-inf'), wait_count=0, stopped=False
    )
    assert state['accuracy/top1']['wait_count'] == 1
    assert 0 < state['accuracy/top1']['best_score'] < 100


def test_the_stock_hook_would_start_to_wait_anew(
    whole: Path, tmp_path: Path
) -> None:
    stock = {**STOP, 'type': 'EarlyStoppingHook'}
    assert train(tmp_path, stock, whole / 'epoch_3.pth') == 6
    assert warnings(tmp_path) == 1


def test_stock_hooks_are_warned_of_once_and_before_they_do_harm(
    tmp_path: Path,
) -> None:
    stock = {**STOP, 'type': 'EarlyStoppingHook', 'patience': 1}
    hooks = [stock, STOP, {**stock, 'patience': 2}]
    assert train(tmp_path, STOP, custom_hooks=hooks) == 2
    assert warnings(tmp_path) == 1
    (log,) = tmp_path.glob('*/*.log')
    assert "type='ResumableEarlyStoppingHook' instead" in log.read_text()


def test_what_stopped_at_its_best_stays_stopped(tmp_path: Path) -> None:
    """``save_best`` saves after the decision, which is then not repeated."""
    hook = {**STOP, 'stopping_threshold': 0}
    best = {'default_hooks.checkpoint.save_best': 'accuracy/top1'}
    assert train(tmp_path / 'whole', hook, **best) == 1
    checkpoint = tmp_path / 'whole' / 'epoch_1.pth'
    assert train(tmp_path / 'part', hook, checkpoint, **best) == 1


def test_loading_without_resuming_starts_to_wait_anew(
    whole: Path, tmp_path: Path
) -> None:
    load_from = str(whole / 'epoch_4.pth')
    assert train(tmp_path, STOP, load_from=load_from) == 4
