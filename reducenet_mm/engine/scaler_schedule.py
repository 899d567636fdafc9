# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The scaler as a function of the iteration, and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any

from reducenet_mm.plain_numbers import is_number, is_whole

SHAPES = ('linear', 'cosine', 'step')
ORDERS = (None, 'deepest_first', 'shallowest_first')
UNITS = {'block': 1, 'stage': 2}
"""Unit -> how many levels of modules a gate's host lies below it."""
GATES = ('expand', 'lambda_relu')
"""What can be annealed, in the words of ``supernet.View``."""


@dataclass(frozen=True)
class Ramp:
    """A scaler's way from ``start`` down to exactly 0.

    Attributes:
        begin: Up to this iteration the scaler is ``start``.
        end: From this iteration on it is 0; greater than ``begin``.
        start: Value in (0, 1].
        shape: One of ``SHAPES``.
        steps: Of ``'step'``: how many equal drops, the last one at ``end``.
    """

    begin: int
    end: int
    start: float = 1.0
    shape: str = 'linear'
    steps: int = 1

    def value(self, iteration: int) -> float:
        """Return the scaler of an iteration, counted from 0."""
        done, length = iteration - self.begin, self.end - self.begin
        if done >= length:
            return 0.0
        done = max(done, 0)
        if self.shape == 'linear':
            return self.start * (length - done) / length
        if self.shape == 'cosine':
            return self.start * (1 + cos(pi * done / length)) / 2
        # Whole numbers, so that each drop is where it should be.
        drops = done * self.steps // length
        return self.start * (self.steps - drops) / self.steps


@dataclass(frozen=True)
class ScalerSchedule:
    """The arguments of ``ScalerScheduleHook``, which describes them.

    Attributes:
        hook: Name of the hook's class, for errors.

    Raises:
        ValueError: If one of them is wrong, or they make no sense together.
    """

    end: int | None
    begin: int
    by_epoch: bool
    start: float
    shape: str
    steps: int | None
    order: str | None
    unit: str
    gates: Sequence[str] | None
    hook: str

    def __post_init__(self) -> None:
        choices: dict[str, Sequence[Any]] = dict(
            by_epoch=(True, False),
            shape=SHAPES,
            order=ORDERS,
            unit=tuple(UNITS),
        )
        for key, known in choices.items():
            if getattr(self, key) not in known:
                self._refuse(key, f'one of {known}')
        gates = self.gates
        if gates is not None and (
            isinstance(gates, str) or not gates or set(gates) - set(GATES)
        ):
            self._refuse('gates', f'a list of {GATES} or None for both')
        self._check_numbers()
        if self.end is not None and self.end <= self.begin:
            raise ValueError(
                f'{self.hook} needs end > begin, got begin={self.begin} and '
                f'end={self.end}. To drop the branches at once, leave the '
                'hook out: a student starts at scaler 0.'
            )
        if self.shape != 'step' and self.steps is not None:
            raise ValueError(
                f"{self.hook}.steps={self.steps!r} is for shape='step' only, "
                f'got shape={self.shape!r}.'
            )

    def _check_numbers(self) -> None:
        if not is_number(self.start) or not 0 < self.start <= 1:
            self._refuse('start', 'a number in (0, 1]')
        if not is_whole(self.begin) or self.begin < 0:
            self._refuse('begin', 'an integer >= 0')
        if self.end is not None and not is_whole(self.end):
            self._refuse('end', 'an integer, or None')
        if self.shape == 'step':
            if not is_whole(self.steps) or self.steps < 1:
                self._refuse('steps', 'the number of drops, an integer >= 1')

    def _refuse(self, key: str, wanted: str) -> None:
        raise ValueError(
            f'{self.hook}.{key} must be {wanted}, got '
            f'{getattr(self, key)!r}. Set it in custom_hooks.'
        )

    def ramps(
        self, units: Sequence[str], total: int, epoch_length: int | None
    ) -> dict[str, Ramp]:
        """Return the ramp of each unit.

        Args:
            units: Names of what takes turns, the shallowest first; without
                an ``order``, one name for all.
            total: Iterations of the training.
            epoch_length: Iterations of an epoch; None if there are none.

        Returns:
            Unit -> ramp, the first in turn first.

        Raises:
            ValueError: If the schedule does not fit into the training.
        """
        begin, end = self._window(total, epoch_length)
        parts = len(units)
        if self.order is not None and not 2 <= parts <= end - begin:
            raise ValueError(
                f'{self.hook}.order={self.order!r} with unit={self.unit!r} '
                f'has {parts} of them to take turns in {end - begin} '
                'iterations: it needs at least 2, and an iteration for each. '
                'Set order=None, another unit or a later end.'
            )
        names = list(units)
        if self.order == 'deepest_first':
            names.reverse()
        # One after the other; the turns differ in length by 1 at most.
        edges = [begin + (end - begin) * i // parts for i in range(parts + 1)]
        settings = (float(self.start), self.shape, self.steps or 1)
        return {
            name: Ramp(first, last, *settings)
            for name, first, last in zip(names, edges, edges[1:])
        }

    def check_epochs(self, epochs: int) -> None:
        """Raise ``ValueError`` if a window in epochs is not within them."""
        if self.by_epoch and self.end is not None:
            self._window(epochs, 1)

    def _window(self, total: int, epoch_length: int | None) -> tuple[int, int]:
        """Return the iterations where the first ramp begins, the last ends."""
        given = f'begin={self.begin}, end={self.end}, by_epoch={self.by_epoch}'
        length = 1
        if self.by_epoch and (self.begin, self.end) != (0, None):
            if epoch_length is None:
                raise ValueError(
                    f'{self.hook}({given}) counts epochs, and this training '
                    'has none (train_cfg.by_epoch). Set by_epoch=False and '
                    'give iterations.'
                )
            length = epoch_length
        begin = self.begin * length
        end = total // 2 if self.end is None else self.end * length
        if not begin < end < total:
            raise ValueError(
                f'{self.hook}({given}) would anneal from iteration {begin} to '
                f'{end} of a training of {total} (train_cfg.max_epochs or '
                'max_iters): it must end after it begins and before the '
                'training does, so that what is shipped, the network at '
                'scaler 0, trains too. Set `begin` and `end` to fit.'
            )
        return begin, end


def unit_of(gate: str, hosts: Sequence[str], unit: str) -> str:
    """Return the block or stage that a gate belongs to.

    Args:
        gate: Name of its module, such as
            ``'backbone.layer1.0.conv1.lora.pair.act'``.
        hosts: Names of all hosts, such as ``'backbone.layer1.0.conv1'``.
        unit: A key of ``UNITS``.

    Returns:
        A name such as ``'backbone.layer1.0'`` or ``'backbone.layer1'``.
    """
    inside = (host for host in hosts if f'{gate}.'.startswith(f'{host}.'))
    path = next(inside, gate).split('.')
    return '.'.join(path[: -UNITS[unit]])
