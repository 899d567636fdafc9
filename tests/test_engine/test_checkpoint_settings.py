# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What a config says about checkpoints is settled before the Runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from reducenet_mm.engine.checkpointing import (
    keep_two_checkpoints,
    settle_resume,
)


@pytest.fixture
def said() -> list[str]:
    return []


def config(work_dir: Path, **settings: Any) -> Config:
    return Config(dict(work_dir=str(work_dir), **settings))


@pytest.mark.parametrize(
    ('number', 'kept'), [(1, 2), (2, 2), (-1, -1), (None, None)]
)
def test_the_only_checkpoint_is_never_deleted(
    tmp_path: Path, said: list[str], number: int | None, kept: int | None
) -> None:
    checkpoint = {} if number is None else {'max_keep_ckpts': number}
    cfg = config(tmp_path, default_hooks=dict(checkpoint=checkpoint))
    keep_two_checkpoints(cfg, said.append)
    assert cfg.default_hooks.checkpoint.get('max_keep_ckpts') == kept
    assert len(said) == (number == 1)
    if said:
        assert 'max_keep_ckpts=1 is raised to 2' in said[0]


@pytest.mark.parametrize(
    'hooks', [{}, dict(default_hooks=None), dict(default_hooks={})]
)
def test_configs_without_a_checkpoint_hook(tmp_path: Path, hooks) -> None:
    keep_two_checkpoints(config(tmp_path, **hooks), pytest.fail)


def test_not_resumed(tmp_path: Path) -> None:
    torch.save({}, tmp_path / 'epoch_1.pth')
    cfg = config(tmp_path, load_from='weights.pth')
    assert settle_resume(cfg, pytest.fail) is None
    assert cfg.load_from == 'weights.pth'


def test_a_named_checkpoint_needs_no_search(tmp_path: Path) -> None:
    torch.save({}, tmp_path / 'epoch_1.pth')
    cfg = config(tmp_path, resume=True, load_from='other.pth')
    assert settle_resume(cfg, pytest.fail) == 'other.pth'


def test_remote_checkpoints_are_not_searched_for(tmp_path: Path) -> None:
    """Silence would start a new run over the one to be resumed."""
    hooks = dict(checkpoint=dict(out_dir='s3://bucket/runs'))
    cfg = config(tmp_path, resume=True, default_hooks=hooks)
    with pytest.raises(ValueError, match=r"out_dir='s3://.* by load_from"):
        settle_resume(cfg, pytest.fail)
    cfg.load_from = 's3://bucket/runs/run/epoch_1.pth'
    assert settle_resume(cfg, pytest.fail) == cfg.load_from


@pytest.mark.parametrize('load_from', [None, 'pretrained.pth'])
def test_the_newest_checkpoint_comes_before_what_a_run_starts_from(
    tmp_path: Path, said: list[str], load_from: str | None
) -> None:
    torch.save({}, tmp_path / 'iter_7.pth')
    cfg = config(tmp_path, resume=True, load_from=load_from)
    newest = str(tmp_path / 'iter_7.pth')
    assert settle_resume(cfg, said.append, search=True) == newest
    assert (cfg.resume, cfg.load_from) == (True, newest)
    assert said == [
        f'{newest} is the newest intact checkpoint: training goes on.'
    ]


@pytest.mark.parametrize('load_from', [None, 'pretrained.pth'])
def test_killed_before_its_first_checkpoint_a_run_starts_as_it_did(
    tmp_path: Path, said: list[str], load_from: str | None
) -> None:
    cfg = config(tmp_path, resume=True, load_from=load_from)
    assert settle_resume(cfg, said.append, search=True) is None
    assert (cfg.resume, cfg.load_from) == (False, load_from)
    assert said == [f'No checkpoint is in {tmp_path} yet: training starts.']


def test_damaged_checkpoints_do_not_mean_a_new_start(
    tmp_path: Path, said: list[str]
) -> None:
    (tmp_path / 'epoch_1.pth').write_bytes(b'PK')
    cfg = config(tmp_path, resume=True)
    with pytest.raises(ValueError, match='epoch_1.pth damaged'):
        settle_resume(cfg, said.append)
    assert 'epoch_1.pth is damaged' in said[0]
