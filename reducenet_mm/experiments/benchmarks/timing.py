# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Times of things done in turns, and what to say about them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

WARM_UP = 3
MIN_ROUNDS = 5


class Times(NamedTuple):
    """How long something took, in seconds."""

    wall: float
    cpu: float


def take_turns(
    actions: Mapping[str, Callable[[], object]],
    rounds: int,
    seconds: float = math.inf,
) -> dict[str, list[Times]]:
    """Time actions A B C, C B A, A B C, ... in this process.

    Each round has all of them, so that a disturbance of the machine meets
    all; and what always comes second would gain by what the first has left
    in the caches.

    Args:
        actions: What to time, by name; warmed up already.
        rounds: How often, at most.
        seconds: Time after which no round begins, once ``MIN_ROUNDS`` are
            done.

    Returns:
        By name, one element for each round.
    """
    times: dict[str, list[Times]] = {name: [] for name in actions}
    end = time.perf_counter() + seconds
    for done in range(rounds):
        if done >= MIN_ROUNDS and time.perf_counter() > end:
            break
        names = list(actions)
        for name in names if done % 2 == 0 else reversed(names):
            wall, cpu = time.perf_counter(), time.process_time()
            actions[name]()
            times[name].append(
                Times(time.perf_counter() - wall, time.process_time() - cpu)
            )
    return times


def time_interleaved(
    actions: Mapping[str, Callable[[], object]],
    rounds: int,
    seconds: float = math.inf,
) -> dict[str, list[float]]:
    """Warm actions up, then :func:`take_turns`; return wall times alone."""
    for _ in range(WARM_UP):
        for action in actions.values():
            action()
    times = take_turns(actions, rounds, seconds)
    return {name: [one.wall for one in turns] for name, turns in times.items()}


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles of at least two values."""
    low, middle, high = statistics.quantiles(values, n=4, method='inclusive')
    return dict(median=middle, quartile1=low, quartile3=high)


def summarize(
    times: Mapping[str, Sequence[float]], ratios: Sequence[tuple[str, str]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return ``milliseconds`` and ``ratios``, each with its quartiles.

    Args:
        times: Seconds by name, all of them in as many rounds.
        ratios: Pairs of names, divided within each round. A pair of which
            one was not measured is left out.
    """
    shares = {
        f'{one}/{other}': quartiles(
            [a / b for a, b in zip(times[one], times[other])]
        )
        for one, other in ratios
        if one in times and other in times
    }
    milliseconds = {
        name: quartiles([value * 1e3 for value in values])
        for name, values in times.items()
    }
    return dict(milliseconds=milliseconds, ratios=shares)
