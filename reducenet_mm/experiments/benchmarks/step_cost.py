# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Time and memory of single training steps on the CPU."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import torch
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

MEMORY_MEASURE = (
    'bytes; resident: weights, buffers and optimizer state between steps, '
    "without gradients; peak: that and the most that torch's CPU allocator "
    'added during a step (allocations and releases recorded by '
    'torch.profiler, in a step of its own that is not timed)'
)
"""What :meth:`TrainingStep.memory` returns, for those who read a result."""


class TrainingStep:
    """One whole step: losses, backward, SGD on what trains.

    Args:
        model: The model, which is put in training mode.
        inputs: Preprocessed batch, ``(N, C, H, W)``.
        samples: Its labels.
        teacher: A network whose forward pass, in eval mode and without a
            graph, is part of the step although nothing uses its result.
    """

    def __init__(
        self,
        model: BaseModel,
        inputs: Tensor,
        samples: list[DataSample],
        teacher: BaseModel | None = None,
    ) -> None:
        self.model, self.teacher = model, teacher
        self.inputs, self.samples = inputs, samples
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9)
        model.train()
        if teacher is not None:
            teacher.eval()

    def __call__(self) -> None:
        """Do the step."""
        self.optimizer.zero_grad()
        if self.teacher is not None:
            with torch.no_grad():
                self.teacher(self.inputs, mode='tensor')
        losses = self.model(self.inputs, self.samples, mode='loss')
        total, _ = self.model.parse_losses(losses)
        total.backward()
        self.optimizer.step()

    def memory(self) -> dict[str, int]:
        """Do two steps; return ``resident`` and ``peak`` in bytes.

        See :data:`MEMORY_MEASURE`. The batch itself is not counted.
        """
        self()  # so that the momentum is there
        # The profiler does not see the release of what it did not see made.
        self.optimizer.zero_grad()
        resident = _size_of(self._tensors())
        return dict(resident=resident, peak=resident + added_bytes(self))

    def _tensors(self) -> Iterator[Tensor]:
        networks: list[nn.Module] = [self.model]
        networks += [] if self.teacher is None else [self.teacher]
        for network in networks:
            yield from network.buffers()
            yield from network.parameters()
        for state in self.optimizer.state.values():
            yield from (v for v in state.values() if isinstance(v, Tensor))


def added_bytes(function: Callable[[], object]) -> int:
    """Return the most bytes that ``function`` had allocated at any moment.

    Counts what torch's CPU allocator hands out and takes back, temporary
    results of operations included. What was there before is not counted,
    nor is its release.

    Args:
        function: Called once.
    """
    gc.collect()  # what others leave is not to be freed meanwhile
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        function()
    results = profiler.profiler.kineto_results
    events = [e for e in results.events() if e.name() == '[memory]']
    level = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        level += event.nbytes()
        highest = max(highest, level)
    return highest


def _size_of(tensors: Iterator[Tensor]) -> int:
    """Return the bytes of their storages, each counted once."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())
