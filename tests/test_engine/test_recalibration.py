# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The student's norm statistics, estimated anew from training images."""

from __future__ import annotations

import copy

import pytest
import torch
from mmpretrain.models.utils.batch_augments import RandomBatchAugment
from mmpretrain.structures import DataSample

from reducenet_mm.engine.hooks.supernet_switch_hook import recalibrate
from reducenet_mm.models.supernet import student_norms


@pytest.fixture
def images():
    return torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def test_recalibration_averages_batches_of_the_executed_norms(
    classifier_cfg, classifier
):
    algorithm = _algorithm(classifier_cfg, classifier)
    batches = [
        dict(
            inputs=list(torch.randint(0, 255, (4, 3, 8, 8)).byte()),
            data_samples=None,
        )
        for _ in range(3)
    ]
    before = copy.deepcopy(algorithm.state_dict())
    stem = algorithm.architecture.backbone.bn1
    seen: list[torch.Tensor] = []
    handle = stem.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].detach())
    )
    recalibrate(algorithm, batches, num_batches=2)
    handle.remove()
    assert len(seen) == 2
    by_hand = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(stem.running_mean, by_hand)
    by_hand = torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(stem.running_var, by_hand)
    changed = {
        k
        for k, v in algorithm.state_dict().items()
        if not torch.equal(v, before[k])
    }
    assert changed == {
        f'architecture.{norm}.{buffer}'
        for norm, _ in student_norms(algorithm.architecture)
        for buffer in ('running_mean', 'running_var', 'num_batches_tracked')
    }
    assert stem.momentum == 0.1


def test_recalibration_mixes_no_images(classifier_cfg, classifier):
    pixels = torch.randint(0, 255, (4, 3, 8, 8)).byte()
    samples = [DataSample().set_gt_label(label) for label in range(4)]
    batch = dict(inputs=list(pixels), data_samples=samples)
    means = []
    for mix in (None, RandomBatchAugment([dict(type='Mixup', alpha=1.0)])):
        algorithm = _algorithm(classifier_cfg, classifier)
        algorithm.data_preprocessor.to_onehot = True
        algorithm.data_preprocessor.batch_augments = mix
        recalibrate(algorithm, [batch], num_batches=1)
        assert algorithm.data_preprocessor.batch_augments is mix
        means.append(algorithm.architecture.backbone.bn1.running_mean)
    assert torch.equal(*means)
    augmented = algorithm.data_preprocessor(batch, True)['inputs']
    assert not torch.equal(augmented, pixels.float())


def _algorithm(classifier_cfg, classifier):
    from mmrazor.registry import MODELS

    algorithm = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=classifier_cfg(),
            norm_stats='recalibrated',
        )
    )
    algorithm.load_teacher(classifier.state_dict())
    return algorithm
