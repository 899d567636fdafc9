# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""MMRazor's ``StopDistillHook``, with a distiller that trains itself."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmrazor.engine.hooks import StopDistillHook
from torch import nn

from reducenet_mm.compat.distributed import leave_cpu_distributed
from tests.test_models.distillation import batch, optimizer


@pytest.fixture
def process_group() -> Iterator[None]:
    """Of this process alone, in which DDP waits for gradients all the same."""
    dist.init_process_group(
        'gloo', store=dist.HashStore(), rank=0, world_size=1
    )
    yield
    leave_cpu_distributed()


def connected() -> dict:
    """Features, which a layer of the distiller's own connects."""
    features = dict(stage=dict(type='ModuleOutputs', source='backbone.layer1'))
    connector = dict(
        type='ConvModuleConnector',
        in_channel=4,
        out_channel=4,
        norm_cfg=dict(type='BN'),
    )
    return dict(
        type='ConfigurableDistiller',
        student_recorders=features,
        teacher_recorders=features,
        connectors=dict(fit=connector),
        distill_losses=dict(loss_stage=dict(type='L2Loss')),
        loss_forward_mappings=dict(
            loss_stage=dict(
                s_feature=dict(
                    recorder='stage', from_student=True, connector='fit'
                ),
                t_feature=dict(recorder='stage', from_student=False),
            )
        ),
    )


def stop(model: nn.Module) -> None:
    StopDistillHook(stop_epoch=1).before_train_epoch(
        SimpleNamespace(
            epoch=1, model=model, logger=MMLogger.get_current_instance()
        )
    )


@pytest.mark.parametrize('kind', ['build', 'inplace'])
def test_processes_that_stop_to_distil_go_on(request, process_group, kind):
    """DDP waits for a gradient of all that trains, of connectors too."""
    algorithm = request.getfixturevalue(kind)(distiller=connected())
    ddp = MMDistributedDataParallel(algorithm).train()
    optim = optimizer(algorithm)
    inputs, samples = batch()
    data = dict(inputs=inputs, data_samples=samples)
    (connector, *_) = algorithm.distiller.connectors['fit'].parameters()
    start = connector.clone()
    log = ddp.train_step(data, optim)
    assert not torch.equal(connector, start)
    assert log['distill.loss_stage'] > 0
    assert 'distill.loss_idle' not in log

    stop(ddp)
    before = algorithm.architecture.head.fc.weight.clone()
    for _ in range(2):  # DDP notices what is missing one step later
        log = ddp.train_step(data, optim)
    assert log['distill.loss_idle'] == 0
    assert 'distill.loss_stage' not in log
    assert not torch.equal(algorithm.architecture.head.fc.weight, before)


@pytest.mark.parametrize('kind', ['build', 'inplace'])
def test_a_stopped_connector_has_a_zero_gradient(request, kind):
    algorithm = request.getfixturevalue(kind)(distiller=connected())
    frozen, *trained = algorithm.distiller.parameters()
    frozen.requires_grad_(False)
    stop(algorithm)
    losses, _ = algorithm.parse_losses(algorithm.train().loss(*batch()))
    losses.backward()
    assert trained and frozen.grad is None
    for param in trained:
        assert torch.equal(param.grad, torch.zeros_like(param))


@pytest.mark.parametrize('kind', ['build', 'inplace'])
def test_a_distiller_that_trains_nothing_has_no_such_loss(request, kind):
    algorithm = request.getfixturevalue(kind)().train()
    stop(algorithm)
    losses = algorithm.loss(*batch())
    assert not [name for name in losses if name.startswith('distill')]
