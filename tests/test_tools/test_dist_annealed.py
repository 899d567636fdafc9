# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Two processes anneal together, without looking for unused parameters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import Runner

from reducenet_mm.engine.hooks import LearnedMaskHook
from reducenet_mm.models.supernet import is_branch_key
from reducenet_mm.registry import HOOKS
from tests.test_tools.forked import run_two_ranks


@HOOKS.register_module()
class WriteMaskHook(Hook):
    """Write what this process has learned, as ``rank<i>.json``."""

    def after_train(self, runner: Runner) -> None:
        (mask,) = (h for h in runner.hooks if isinstance(h, LearnedMaskHook))
        learned = dict(scores=mask.scores, dropped=mask.dropped)
        path = Path(runner.work_dir) / f'rank{runner.rank}.json'
        path.write_text(json.dumps(learned))


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


@pytest.mark.skipif(get_device() != 'cpu', reason='gloo is for CPUs')
def test_two_processes_learn_one_mask(
    tmp_path, free_port, config, teacher_run
):
    """From other images each; nothing before the first branch trains."""
    leaf = tmp_path / 'learned.py'
    leaf.write_text(f"""
_base_ = {config.student!r}
custom_imports = dict(imports=['reducenet_mm', {__name__!r}])
model = dict(reuse=dict(freeze=['stem', 'classifier']))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='LearnedMaskHook', end=3, by_epoch=False),
    dict(type='WriteMaskHook'),
]
""")
    run_two_ranks(
        *('train', leaf, '--work-dir', tmp_path / 'run'),
        *('--cfg-options', *config.student_model, *config.schedule(1)),
        'train_dataloader.dataset.indices=128',
        f'model.teacher_ckpt={teacher_run}',
        port=free_port,
    )
    first, second = (
        json.loads((tmp_path / f'run/rank{rank}.json').read_text())
        for rank in (0, 1)
    )
    assert first == second
    assert len(set(first['dropped'])) == len(first['scores']) == 3
    assert all(abs(score) > 1e-6 for score in first['scores'].values())
