# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Latency of several networks, measured side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from .timing import quartiles, time_interleaved

BATCH_SIZES = (1, 64)
MAX_ROUNDS = 200


@dataclass(frozen=True)
class Latency:
    """Time of one forward pass.

    Attributes:
        median_ms: Median, in milliseconds.
        quartiles_ms: First and third quartile.
        rounds: Number of measurements.
    """

    median_ms: float
    quartiles_ms: tuple[float, float]
    rounds: int


def measure_latency(
    networks: Mapping[str, nn.Module],
    input_shape: Sequence[int],
    batch_sizes: Sequence[int] = BATCH_SIZES,
    seconds: float = 10.0,
    device: str = 'cpu',
) -> dict[str, dict[int, Latency]]:
    """Time networks in eval mode, interleaved, after a warm-up.

    They take turns as :func:`~.timing.take_turns` says.

    Args:
        networks: The networks by name; put into eval mode on ``device``.
        input_shape: (C, H, W) of one image.
        batch_sizes: Images of one forward pass.
        seconds: Time to spend on each batch size; there are at least
            ``timing.MIN_ROUNDS`` rounds and at most ``MAX_ROUNDS``.
        device: Where to measure.

    Returns:
        By network and batch size.
    """
    for network in networks.values():
        network.eval().to(device)
    times = {
        batch: _times(
            networks, torch.randn(batch, *input_shape).to(device), seconds
        )
        for batch in batch_sizes
    }
    return {
        name: {batch: summarize(times[batch][name]) for batch in batch_sizes}
        for name in networks
    }


def summarize(seconds: Sequence[float]) -> Latency:
    """Return median and quartiles of at least two times in seconds."""
    found = quartiles([value * 1e3 for value in seconds])
    return Latency(
        median_ms=found['median'],
        quartiles_ms=(found['quartile1'], found['quartile3']),
        rounds=len(seconds),
    )


def conditions(device: str = 'cpu') -> dict[str, object]:
    """Describe under which conditions latency is measured here."""
    load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else None
    return dict(
        device=device,
        threads=torch.get_num_threads(),
        cpu_count=os.cpu_count(),
        load_average_1min=load,
        precision='float32',
    )


@torch.no_grad()
def _times(
    networks: Mapping[str, nn.Module], images: torch.Tensor, seconds: float
) -> dict[str, list[float]]:
    passes = {
        name: partial(_forward, network, images)
        for name, network in networks.items()
    }
    return time_interleaved(passes, MAX_ROUNDS, seconds)


def _forward(network: nn.Module, images: torch.Tensor) -> None:
    network(images)
    if images.is_cuda:
        torch.cuda.synchronize()
