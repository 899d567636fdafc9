# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What the tests of SupernetDistill share."""

from __future__ import annotations

import copy

import torch
from mmengine.optim import build_optim_wrapper
from mmpretrain.structures import DataSample

TAU, WEIGHT = 3.0, 0.7


def soft_labels() -> dict:
    logits = dict(logits=dict(type='ModuleOutputs', source='head.fc'))
    return dict(
        type='ConfigurableDistiller',
        student_recorders=logits,
        teacher_recorders=copy.deepcopy(logits),
        distill_losses=dict(
            loss_kl=dict(
                type='KLDivergence',
                tau=TAU,
                loss_weight=WEIGHT,
                reduction='batchmean',
            )
        ),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(recorder='logits', from_student=True),
                preds_T=dict(recorder='logits', from_student=False),
            )
        ),
    )


def batch(size=4):
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(size, 3, 8, 8, generator=generator)
    samples = [DataSample().set_gt_label(i % 5) for i in range(size)]
    return inputs, samples


def optimizer(algorithm):
    return build_optim_wrapper(
        algorithm,
        dict(
            constructor='TrainableOptimWrapperConstructor',
            optimizer=dict(
                type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-2
            ),
        ),
    )


def train(algorithm, steps=3, optim=None):
    optim = optim or optimizer(algorithm)
    algorithm.train()
    for _ in range(steps):
        inputs, samples = batch()
        losses, _ = algorithm.parse_losses(algorithm.loss(inputs, samples))
        optim.update_params(losses)
    return optim


def teacher_copy(classifier):
    return copy.deepcopy(classifier).eval()


def assert_teacher_is(algorithm, reference):
    """Bit for bit, on a fixed batch, in every mode the algorithm has."""
    inputs, samples = batch()
    mode = algorithm.training
    with torch.no_grad():
        expected = reference(inputs, mode='tensor')
    assert torch.equal(algorithm.teacher(inputs), expected)
    predicted = algorithm.teacher(inputs, samples, mode='predict')
    scores = torch.stack([sample.pred_score for sample in predicted])
    assert torch.equal(scores, expected.softmax(1))
    assert algorithm.training == mode
