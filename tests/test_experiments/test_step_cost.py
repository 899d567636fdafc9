# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Memory of a step is counted as by hand; steps take turns."""

from __future__ import annotations

from typing import Any

import torch

from reducenet_mm.experiments.benchmarks import step_cost, timing


def test_added_bytes_are_the_highest_level() -> None:
    kept = torch.ones(10)

    def use() -> None:
        one, two = torch.empty(1000), torch.empty(500)
        del one
        torch.add(kept, kept, out=kept)
        three = torch.empty(900)
        del two, three

    assert step_cost.added_bytes(use) == 4 * 1500
    assert step_cost.added_bytes(lambda: torch.add(kept, kept, out=kept)) == 0


def test_memory_by_hand() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1000))
            self.frozen = torch.nn.Parameter(torch.ones(7), False)
            self.register_buffer('buffer', torch.ones(30))

        def forward(self, inputs: Any, samples: Any, mode: str) -> dict:
            return dict(loss=(self.weight * self.weight).sum())

        def parse_losses(self, losses: dict) -> tuple:
            return losses['loss'], losses

    step = step_cost.TrainingStep(Model(), torch.ones(1), [])  # type: ignore
    memory = step.memory()
    assert memory == step.memory()
    assert memory['resident'] == 4 * (1000 + 7 + 30 + 1000)  # and momentum
    # At least the product and the gradient, at most two temporaries more.
    assert 2 * 4000 <= memory['peak'] - memory['resident'] <= 4 * 4000


def test_steps_take_turns() -> None:
    calls: list[str] = []
    steps = {name: lambda n=name: calls.append(n) for name in 'abc'}
    times = timing.time_interleaved(steps, 4)
    assert calls == list('abc') * timing.WARM_UP + list('abccba') * 2
    assert [len(values) for values in times.values()] == [4] * 3
