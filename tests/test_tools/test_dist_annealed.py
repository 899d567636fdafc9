# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Two processes anneal together, without looking for unused parameters."""

from __future__ import annotations

import pytest
import torch
from mmengine.device import get_device

from reducenet_mm.models.supernet import is_branch_key
from tests.test_tools.forked import run_two_ranks


@pytest.mark.skipif(get_device() != 'cpu', reason='gloo is for CPUs')
def test_two_processes_anneal_branches_that_train(
    tmp_path, free_port, config, teacher_run
):
    """Half of the steps are after the end, when branches are idle."""
    leaf = tmp_path / 'annealed.py'
    leaf.write_text(f"""
_base_ = {config.student!r}
model = dict(train_branches=True)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='ScalerScheduleHook', end=4, by_epoch=False),
]
""")
    run_two_ranks(
        *('train', leaf, '--work-dir', tmp_path / 'run'),
        *('--cfg-options', *config.student_model, *config.schedule(1)),
        *('train_dataloader.dataset.indices=256', 'train_cfg.val_interval=1'),
        f'model.teacher_ckpt={teacher_run}',
        port=free_port,
    )
    trained = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)
    assert trained['meta']['iter'] == 8
    (file,) = teacher_run.glob('epoch_4.pth')
    teacher = torch.load(file, weights_only=False)['state_dict']
    state = trained['state_dict']
    names = [n for n in teacher if is_branch_key(n) and 'weight' in n]
    assert names
    for name in names:
        assert not torch.equal(state[f'architecture.{name}'], teacher[name])
        kept = state[f'teacher_overlay.{name}']
        assert torch.equal(kept, teacher[name])
