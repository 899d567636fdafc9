# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What depends on where a training is, and on nothing else."""

from __future__ import annotations

import random
from dataclasses import dataclass

from reducenet_mm.seeds import mix_seeds


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a training is: the same after resuming.

    In all processes too, unless ``randomness.diff_rank_seed`` gives each a
    seed of its own.

    Attributes:
        seed: The Runner's.
        iteration: Iterations done, from 0.
        max_iters: Iterations of the whole training.
    """

    seed: int
    iteration: int
    max_iters: int

    def ramp(self, share: float) -> float:
        """Return a weight in (0, 1] which rises linearly over the steps.

        Args:
            share: The part of the training after which it is 1, in (0, 1].
        """
        return min(1.0, (self.iteration + 1) / (share * self.max_iters))

    def draw_scalers(self, count: int) -> list[float]:
        """Draw scalers uniformly from (0, 1], others in each step."""
        seed, _, _ = mix_seeds('sandwich', self.seed, self.iteration)
        rng = random.Random(seed)
        return [1.0 - rng.random() for _ in range(count)]
