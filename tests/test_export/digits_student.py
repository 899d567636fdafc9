# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A student trained on real digits for some seconds."""

from __future__ import annotations

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from reducenet_mm import set_scaler
from reducenet_mm.datasets import Digits
from reducenet_mm.models.supernet import ungraft


def digits(split: str) -> tuple[Tensor, Tensor]:
    """Return preprocessed images (N, 1, 8, 8) and labels (N, )."""
    samples = list(Digits(split=split))
    images = torch.stack([torch.from_numpy(s['img']) for s in samples])
    labels = torch.tensor([sample['gt_label'] for sample in samples])
    return (images.permute(0, 3, 1, 2) - 77.81) / 95.90, labels


def trained_student(base_channels: int = 16, epochs: int = 3) -> nn.Module:
    """Train the student of a ReduceNet-8; return it alone, in eval mode."""
    torch.manual_seed(0)
    backbone = dict(
        type='ReduceNet',
        depth=8,
        base_channels=base_channels,
        in_channels=1,
    )
    model = MODELS.build(
        dict(
            _scope_='mmpretrain',
            type='ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead',
                num_classes=10,
                in_channels=4 * base_channels,
                loss=dict(type='CrossEntropyLoss'),
            ),
        )
    )
    set_scaler(model, 0.0)
    images, labels = digits('train')
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for index in torch.randperm(len(images)).split(64):
            loss = nn.functional.cross_entropy(
                model(images[index]), labels[index]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return ungraft(model).eval()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the accuracy in %."""
    return (logits.argmax(1) == labels).float().mean().item() * 100
