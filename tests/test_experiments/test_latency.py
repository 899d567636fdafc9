# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Latency: robust figures, fair turns."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from reducenet_mm.experiments.benchmarks.latency import (
    MAX_ROUNDS,
    measure_latency,
    summarize,
)
from reducenet_mm.experiments.benchmarks.timing import MIN_ROUNDS, WARM_UP


class Recorder(nn.Module):
    """Notes when it is called, and how."""

    def __init__(self, name: str, calls: list, seconds: float = 0.0) -> None:
        super().__init__()
        self.name, self.calls, self.seconds = name, calls, seconds

    def forward(self, images: Tensor) -> Tensor:
        grad = torch.is_grad_enabled()
        shape = tuple(images.shape)
        self.calls.append((self.name, shape, self.training, grad))
        time.sleep(self.seconds)
        return images


def test_median_and_quartiles() -> None:
    summary = summarize([0.001, 0.002, 0.003, 0.004, 1.0])
    assert summary.median_ms == pytest.approx(3.0)
    assert summary.quartiles_ms == pytest.approx((2.0, 4.0))
    assert summary.rounds == 5


def test_networks_take_turns_in_eval_mode_without_gradients() -> None:
    calls: list = []
    networks = {name: Recorder(name, calls) for name in ('a', 'b')}
    measured = measure_latency(networks, (1, 2, 2), (1, 4), seconds=0)
    assert all(not training and not grad for *_, training, grad in calls)
    one_batch = WARM_UP * 2 + MIN_ROUNDS * 2
    assert len(calls) == 2 * one_batch
    turns = ''.join(name for name, *_ in calls[6:one_batch])
    assert turns == 'abbaabbaab'
    shapes = [shape for _, shape, *_ in calls]
    assert set(shapes[:one_batch]) == {(1, 1, 2, 2)}
    assert set(shapes[one_batch:]) == {(4, 1, 2, 2)}
    assert measured['b'][4].rounds == MIN_ROUNDS


def test_a_slow_network_is_slower_and_rounds_are_bounded() -> None:
    networks = {
        'fast': Recorder('fast', []),
        'slow': Recorder('slow', [], seconds=0.002),
    }
    measured = measure_latency(networks, (1, 1, 1), (1,), seconds=60)
    assert measured['slow'][1].median_ms >= 2
    assert measured['fast'][1].median_ms < 1
    assert measured['fast'][1].rounds == MAX_ROUNDS
