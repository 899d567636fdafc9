# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The training and the testing tool on a detector and a segmentor."""

from __future__ import annotations

import runpy
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from reducenet_mm.models.checkpoint_views import split_state_dict

from .configs import distilled
from .distillation import Trained, answers, stock

TOOLS = Path(__file__).parents[2] / 'tools'
IMAGES = ('.jpg', '.png')


def tool(name: str):
    return runpy.run_path(str(TOOLS / f'{name}.py'))['main']


def test_train_and_test_either_network(trained: Trained, tmp_path: Path):
    """Where images differ in size, batches are lists as MMEngine has them."""
    cfg = distilled(
        trained.teacher_cfg,
        trained.kind.distiller(),
        teacher_ckpt=str(trained.root / 'teacher.pth'),
    )
    cfg.train_cfg.max_epochs = 1
    cfg.train_dataloader.dataset.indices = 2
    config = tmp_path / 'config.py'
    cfg.dump(config)
    work_dir = tmp_path / 'work_dir'
    tool('train')([str(config), '--work-dir', str(work_dir)])

    checkpoint = work_dir / 'epoch_1.pth'
    networks = dict(zip('10', networks_in(trained, checkpoint), strict=True))
    for scaler, network in networks.items():
        out = tmp_path / f'{scaler}.pkl'
        tool('test')(
            [
                *map(str, (config, checkpoint)),
                *('--scaler', scaler, '--out', str(out)),
                *('--work-dir', str(tmp_path / 'tested')),
            ]
        )
        with torch.no_grad():
            expected = [
                sample
                for raw in trained.runner.val_dataloader
                for sample in network.val_step(raw)
            ]
        found = answers(mmengine.load(out))
        assert len(found) == len(expected) == 4
        assert all(map(torch.equal, found, answers(expected)))


def networks_in(
    trained: Trained, checkpoint: Path
) -> tuple[nn.Module, nn.Module]:
    """The teacher that there was, and the student, both plain networks."""
    file = CheckpointLoader.load_checkpoint(str(checkpoint))
    _, state = split_state_dict(file['state_dict'])
    student = stock(trained)
    before = {
        k: v for k, v in trained.teacher.state_dict().items() if k in state
    }
    assert any(not torch.equal(before[key], state[key]) for key in state)
    student.load_state_dict(state)
    return trained.teacher, student.eval()


def test_predictions_are_drawn(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cfg = trained.teacher_cfg.copy()
    name = 'Det' if cfg.default_scope == 'mmdet' else 'Seg'
    cfg.default_hooks = dict(
        visualization=dict(type=f'{name}VisualizationHook')
    )
    cfg.visualizer = dict(
        type=f'{name}LocalVisualizer',
        vis_backends=[dict(type='LocalVisBackend')],
    )
    cfg.dump(tmp_path / 'config.py')
    monkeypatch.chdir(tmp_path)
    checkpoint = str(trained.root / 'teacher.pth')
    tool('test')(['config.py', checkpoint, '--show-dir', 'shown'])
    drawn = [p for p in Path('shown').rglob('*') if p.suffix in IMAGES]
    assert len(drawn) == 4
