# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A loss or weights that are no numbers: one error, and nothing saved."""

from __future__ import annotations

import re

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from .training import STEPS, small_cfg, train, weights

EXPLODE = dict(
    _delete_=True,
    type='MultiStepLR',
    milestones=[1],
    gamma=1e30,
    by_epoch=True,
)
"""The learning rate of the second epoch is 5e28."""


@HOOKS.register_module()
class SpoilWeight(Hook):
    """Spoil one weight after an epoch's last step, as an overflow does."""

    def __init__(self, key, value):
        self.key, self.value = key, float(value)

    @torch.no_grad()
    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if runner.iter == 2 * STEPS - 1:
            tensor = runner.model.state_dict()[self.key]
            tensor.view(-1)[0] = self.value


def checkpoints(work_dir):
    return sorted(path.name for path in work_dir.glob('*.pth*'))


def test_a_loss_that_is_no_number_ends_the_training(tmp_path):
    cfg = small_cfg(tmp_path / 'run', 3, param_scheduler=EXPLODE)
    with pytest.raises(RuntimeError) as stopped:
        train(cfg)
    message = str(stopped.value)
    step = 2 + STEPS  # the first of the second epoch is still finite
    assert re.search(r'\bloss=(nan|inf)\b', message)
    assert f'in iteration {step} of epoch 2' in message
    assert 'lr=5e+28' in message
    last = tmp_path / 'run' / 'epoch_1.pth'
    assert f'The last good checkpoint is {last}: resume from it' in message
    assert 'optim_wrapper.clip_grad' in message
    assert checkpoints(last.parent) == [last.name]
    assert all(value.isfinite().all() for value in weights(last).values())


def test_a_first_epoch_without_a_checkpoint_says_so(tmp_path):
    cfg = small_cfg(tmp_path / 'run', 1)
    cfg.optim_wrapper.optimizer.lr = 1e30
    with pytest.raises(RuntimeError, match='no good checkpoint in .*: start'):
        train(cfg)
    assert checkpoints(tmp_path / 'run') == []


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('backbone.layer1.0.conv1.weight', 'inf'),
        ('backbone.layer1.0.bn1.running_var', 'nan'),
    ],
)
def test_spoilt_weights_are_not_saved(tmp_path, key, value):
    cfg = small_cfg(tmp_path / 'run', 3)
    cfg.custom_hooks = [dict(type='SpoilWeight', key=key, value=value)]
    with pytest.raises(RuntimeError) as stopped:
        train(cfg)
    message = str(stopped.value)
    assert f'not finite after iteration {2 * STEPS}, e.g. {key}' in message
    assert 'epoch_1.pth' in message
    assert checkpoints(tmp_path / 'run') == ['epoch_1.pth']
