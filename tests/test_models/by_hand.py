# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What each preset of distillation minimises, by hand.

``BY_HAND[name](teacher, student, labels)`` returns the losses of the preset
``name`` by their names; both networks are given as :func:`outputs`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def outputs(network, inputs, stages=3):
    """Return logits and stage outputs; norms may be in training mode."""
    with torch.no_grad():
        features, network.backbone.out_indices = [], range(stages)
        hook = network.neck.register_forward_pre_hook(
            lambda neck, args: features.extend(args[0])
        )
        logits = network(inputs)
        hook.remove()
    return logits, features


def kl(teacher, student, tau):
    """Per image, ``(N,)``."""
    soft = (teacher / tau).softmax(1)
    return (soft * (soft.log() - (student / tau).log_softmax(1))).sum(1)


def soft_labels(teacher, student, labels):
    return dict(loss_kl=16 * kl(teacher[0], student[0], 4).mean())


def soft_labels_published(teacher, student, labels):
    # On these 5 classes the mean over elements is a fifth of that per image.
    return dict(loss_kl=0.7 * 25 * kl(teacher[0], student[0], 5).mean() / 5)


def dist(teacher, student, labels):
    p, q = teacher[0].softmax(1), student[0].softmax(1)

    def unlike(rows, others):
        total = 0.0
        for a, b in zip(
            rows - rows.mean(1, True), others - others.mean(1, True)
        ):
            total += 1 - a @ b / (a.norm() * b.norm() + 1e-8)
        return total / len(rows)

    return dict(loss_dist=2.0 * (unlike(p, q) + unlike(p.T, q.T)))


def dkd(teacher, student, labels):
    total = 0.0
    for t, s, label in zip(teacher[0], student[0], labels, strict=True):
        p, q = (t / 4).softmax(0), (s / 4).softmax(0)
        binary = torch.stack([p[label], 1 - p[label]])
        other = torch.stack([q[label], 1 - q[label]])
        total += (binary * (binary / other).log()).sum()
        rest = torch.arange(5) != label
        p, q = p[rest] / p[rest].sum(), q[rest] / q[rest].sum()
        total += (p * (p / q).log()).sum()
    return dict(loss_dkd=16 * total / len(labels))


def features(teacher, student, labels):
    losses = {}
    for i, (t, s) in enumerate(zip(teacher[1], student[1], strict=True), 1):
        t, s = F.normalize(t.flatten(1)), F.normalize(s.flatten(1))
        losses[f'loss_stage{i}'] = (t - s).square().sum(1).mean()
    return losses


def attention(teacher, student, labels):
    losses = {}
    for i, (t, s) in enumerate(zip(teacher[1], student[1], strict=True), 1):
        t = F.normalize(t.square().sum(1).flatten(1))
        s = F.normalize(s.square().sum(1).flatten(1))
        losses[f'loss_stage{i}'] = 1000 * (t - s).square().mean()
    return losses


def soft_labels_features(teacher, student, labels):
    return {
        **soft_labels(teacher, student, labels),
        **features(teacher, student, labels),
    }


BY_HAND = dict(
    none=lambda teacher, student, labels: {},
    soft_labels=soft_labels,
    soft_labels_published=soft_labels_published,
    soft_labels_features=soft_labels_features,
    dist=dist,
    dkd=dkd,
    features=features,
    attention=attention,
)
