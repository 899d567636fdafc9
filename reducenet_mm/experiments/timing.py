# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Times of things done in turns, and what to say about them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Times(NamedTuple):
    """How long something took, in seconds."""

    wall: float
    cpu: float


def take_turns(
    actions: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[Times]]:
    """Time actions A B C, C B A, A B C, ... in this process.

    Each round has all of them, so that a disturbance of the machine meets
    all; and what always comes second would gain by what the first has left
    in the caches.

    Args:
        actions: What to time, by name; warmed up already.
        rounds: How often.

    Returns:
        By name, one element for each round.
    """
    times: dict[str, list[Times]] = {name: [] for name in actions}
    for done in range(rounds):
        names = list(actions)
        for name in names if done % 2 == 0 else reversed(names):
            wall, cpu = time.perf_counter(), time.process_time()
            actions[name]()
            times[name].append(
                Times(time.perf_counter() - wall, time.process_time() - cpu)
            )
    return times


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles of at least two values."""
    low, middle, high = statistics.quantiles(values, n=4, method='inclusive')
    return dict(median=middle, quartile1=low, quartile3=high)
