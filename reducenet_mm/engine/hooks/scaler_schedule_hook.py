# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Annealing: the teacher's branches fade out while the student trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from reducenet_mm.engine.scaler_schedule import (
    GATES,
    Ramp,
    ScalerSchedule,
    unit_of,
)
from reducenet_mm.models.layers import Gated
from reducenet_mm.models.supernet import (
    hosts,
    is_branch_key,
    is_lora_key,
    set_gates,
    student_gates,
)
from reducenet_mm.registry import HOOKS

from .runner_facts import epoch_length, unwrapped_model
from .schedule_checks import check_model, check_wrapper

SCALAR = 'train/scaler'
"""Key in the message hub: the mean over all units.

Of several hooks, each has its own, behind which its gates are named.
"""


@HOOKS.register_module()
class ScalerScheduleHook(Hook):
    """Anneal the scaler of a student from ``start`` to exactly 0.

    The scaler is a function of the iteration and the training's length, so a
    resumed run has the one it would have had. It is set for training steps
    only. All else (validation, early stopping, the choice of the best
    checkpoint, export) sees the network at scaler 0, which is what is
    shipped; before the end of the annealing its metrics are therefore lower
    than the training's. From the end on, no branch is computed.

    In :class:`SupernetDistill` the branches stay frozen meanwhile, as the
    teacher needs them, unless ``train_branches`` is set. A plain network
    works too, with all of it training, if its config says
    ``backbone.scaler=0``: that is what it is outside of training steps.

    Dropping all branches at once needs no hook: a student without one
    starts at scaler 0.

    Args:
        end: Where the scaler becomes 0, in epochs or iterations; before
            the end of the training. None for half of the training.
        begin: Where it starts to fall.
        by_epoch: Whether ``begin`` and ``end`` are epochs.
        start: Value before, in (0, 1].
        shape: ``'linear'``, ``'cosine'`` or ``'step'``.
        steps: Number of equal drops of ``'step'``, the last one at ``end``.
        order: None lets all branches fade at once; ``'deepest_first'`` and
            ``'shallowest_first'`` one unit after the other, each for an
            equal share of the time from ``begin`` to ``end``.
        unit: ``'block'`` or ``'stage'``: what has its turn in an ``order``.
            It is the module that holds a host convolution, or the one
            around it.
        gates: What fades: ``'expand'``, the branches, and
            ``'lambda_relu'``, activations that become the identity (in
            ``sequential`` blocks and ``lora`` branches). None for all that
            the model has.

    Raises:
        ValueError: If an argument is not one of those above.
    """

    priority = 'ABOVE_NORMAL'  # refuses before the switch is measured

    def __init__(
        self,
        end: int | None = None,
        begin: int = 0,
        by_epoch: bool = True,
        start: float = 1.0,
        shape: str = 'linear',
        steps: int | None = None,
        order: str | None = None,
        unit: str = 'block',
        gates: Sequence[str] | None = None,
    ) -> None:
        self.schedule = ScalerSchedule(
            end=end,
            begin=begin,
            by_epoch=by_epoch,
            start=start,
            shape=shape,
            steps=steps,
            order=order,
            unit=unit,
            gates=gates,
            hook=type(self).__name__,
        )
        self._moving: list[tuple[dict[str, Gated], Ramp]] = []
        self._scalar = SCALAR

    def before_train(self, runner: Runner) -> None:
        """Find the gates and their times.

        Raises:
            ValueError: If the model has no such gates, is not built as the
                student or cannot train this way, or the schedule does not
                fit into the training.
        """
        model = unwrapped_model(runner)
        network = getattr(model, 'architecture', model)
        gates = self._find_gates(network)
        check_model(model, gates, self.schedule.hook)
        self.check_beside(runner.hooks, model)
        if hasattr(model, 'trained_branches'):
            activations = student_gates(network, 'lambda_relu')
            loras = set(filter(is_lora_key, activations))
            if loras <= gates.keys():
                model.annealed = True
        if not getattr(model, 'trained_branches', ()) and is_model_wrapper(
            runner.model
        ):
            check_wrapper(runner.model, gates, self.schedule.hook)
        moving = self.moving(network, runner.max_iters, epoch_length(runner))
        self._moving = list(moving.values())
        kinds = (isinstance(h, ScalerScheduleHook) for h in runner.hooks)
        if sum(kinds) > 1:  # then their gates are named, and differ
            self._scalar = '_'.join((SCALAR, *(self.schedule.gates or ())))
        ramps = {unit: ramp for unit, (_, ramp) in moving.items()}
        _log(runner, len(gates), ramps)

    def check_fit(self, model: nn.Module, train_cfg: Mapping) -> None:
        """Look for what is wrong before there is a Runner.

        How many iterations an epoch has is only known then.

        Args:
            model: What will be trained; only read.
            train_cfg: The config's section.

        Raises:
            ValueError: As by ``before_train``.
        """
        network = getattr(model, 'architecture', model)
        check_model(model, self._find_gates(network), self.schedule.hook)
        if train_cfg.get('max_iters'):
            self.moving(network, train_cfg['max_iters'], None)
        elif train_cfg.get('max_epochs'):
            self.schedule.check_epochs(train_cfg['max_epochs'])

    def check_beside(self, hooks: Sequence[Any], model: nn.Module) -> None:
        """Raise ``ValueError`` if another hook moves the same gates.

        Args:
            hooks: All of the training, this one included.
            model: What will be trained; only read.
        """
        network = getattr(model, 'architecture', model)
        own = self._find_gates(network)
        for hook in hooks:
            if hook is self or not isinstance(hook, ScalerScheduleHook):
                continue
            both = own.keys() & hook._find_gates(network).keys()
            if both:
                raise ValueError(
                    f'{self.schedule.hook} and {hook.schedule.hook} in '
                    f'custom_hooks both move {len(both)} gates, such as '
                    f'`{min(both)}`, so that one would undo the other. Leave '
                    'one out, or let a ScalerScheduleHook move what the other '
                    "does not: gates=['lambda_relu'] or ['expand']."
                )

    def moving(
        self, network: nn.Module, total: int, epoch_length: int | None
    ) -> dict[str, tuple[dict[str, Gated], Ramp]]:
        """Return the gates that move, by name, and when, for each unit.

        Args:
            network: The supernet; only read.
            total: Iterations of the training.
            epoch_length: Iterations of an epoch; None if there are none.

        Raises:
            ValueError: If it has no such gates, or the schedule does not
                fit into the training.
        """
        units = self._find_units(network, self._find_gates(network))
        ramps = self.schedule.ramps(list(units), total, epoch_length)
        return {unit: (units[unit], ramp) for unit, ramp in ramps.items()}

    def fading_ramps(
        self, network: nn.Module, total: int, epoch_length: int | None
    ) -> dict[str, tuple[dict[str, Gated], Ramp]]:
        """Return what to count the cost of a training by; as `moving`."""
        return self.moving(network, total, epoch_length)

    def before_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | Sequence | None = None,
    ) -> None:
        """Set the gates of this iteration."""
        values = [ramp.value(runner.iter) for _, ramp in self._moving]
        for (gates, _), value in zip(self._moving, values, strict=True):
            set_gates(gates, value)
        self.log_scaler(runner, sum(values) / len(values))

    def log_scaler(self, runner: Runner, mean: float) -> None:
        """Log the mean of the scaler over all units."""
        runner.message_hub.update_scalar(self._scalar, mean)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | Sequence | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Leave the student to whatever comes next."""
        for gates, _ in self._moving:
            set_gates(gates, 0.0)

    def _find_gates(self, network: nn.Module) -> dict[str, Gated]:
        """Return the gates that move, by name."""
        inner = [
            name
            for name, module in network.named_modules()
            if isinstance(module, Gated) and is_branch_key(name)
        ]
        if inner:
            raise ValueError(
                f'{self.schedule.hook} cannot anneal a student with new '
                f'convolutions (`{inner[0]}` is in a branch; '
                "backbone.student_conv='merged' or 'fresh'): they replace "
                "the teacher's pair at once. Leave the hook out, or set "
                "backbone.student_conv='pair'."
            )
        found = {gate: student_gates(network, gate) for gate in GATES}
        present = tuple(gate for gate in GATES if found[gate])
        asked = self.schedule.gates
        wanted = present if asked is None else asked
        missing = [gate for gate in wanted if not found[gate]]
        if missing or not wanted:
            raise ValueError(
                f'{self.schedule.hook} moves gates ({asked or "all"}), but '
                f'{type(network).__name__} has {present or "none"} of '
                f"{GATES}. 'expand' needs a block with branches, "
                "'lambda_relu' the block 'sequential' or a lora with "
                'act=True.'
            )
        return {k: v for gate in wanted for k, v in found[gate].items()}

    def _find_units(
        self, network: nn.Module, gates: dict[str, Gated]
    ) -> dict[str, dict[str, Gated]]:
        """Group gates by what takes its turn, the shallowest first."""
        if self.schedule.order is None:
            return {'all': gates}
        names = [name for name, _ in hosts(network)]
        order = [name for name, _ in network.named_modules()]
        units: dict[str, dict[str, Gated]] = {}
        for name in sorted(gates, key=order.index):
            unit = unit_of(name, names, self.schedule.unit)
            units.setdefault(unit, {})[name] = gates[name]
        return units


def _log(runner: Runner, gates: int, ramps: dict[str, Ramp]) -> None:
    first, last = list(ramps.values())[0], list(ramps.values())[-1]
    text = (
        f'The scaler of {gates} gates falls from {first.start:g} to 0 '
        f'({first.shape}) from iteration {first.begin} to {last.end} of '
        f'{runner.max_iters}. What is validated and shipped is the student '
        'at scaler 0.'
    )
    if len(ramps) > 1:
        turns = (f'{u} {r.begin} to {r.end}' for u, r in ramps.items())
        text += f' One after the other: {", ".join(turns)}.'
    runner.logger.info(text)
