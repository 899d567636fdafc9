# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which branches go first is learned, instead of all fading by a schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.runner import Runner
from torch import Tensor, nn

from reducenet_mm.engine.scaler_schedule import Ramp
from reducenet_mm.models.layers import Gated, Host
from reducenet_mm.models.supernet import set_gates
from reducenet_mm.registry import HOOKS

from .scaler_schedule_hook import ScalerScheduleHook

MASK = 'learned_mask'
"""Key in the message hub, for a resumed run: scores and what is dropped."""


@HOOKS.register_module()
class LearnedMaskHook(ScalerScheduleHook):
    """Learn a mask of the branches while fewer and fewer may be kept.

    Each branch has a score, 0 at first. In every step the branches that are
    kept have the gate 1, all others 0, and the score of each kept one is
    lowered by the loss's gradient by its gate, ``sum(grad * branch)``, where
    ``grad`` is the loss's gradient by the branch's output: it falls where the
    loss would fall with less of the branch. From ``begin`` to ``end`` the
    number of kept branches falls from all to none in equal turns, and at the
    end of each turn the one with the lowest score goes, for good.

    Source: the learned masks of DepthShrinker (Fu et al. 2022, arXiv
    2206.00843): a score for each activation, the k highest are kept as a
    binary mask and the gradient goes straight through to the scores, learned
    along with the weights. We deviate: masked are branches; k falls to 0,
    since the student has none; what is dropped is not computed, so its score
    stands still and it cannot come back; scores are sums of gradients, so
    plain SGD, whose step size does not matter for their order; and the gates
    stay plain numbers.

    Where all before a branch is frozen, its score is learned all the same:
    the backward pass then goes on to the branch's output, and no further.

    In mixed precision (``AmpOptimWrapper``) gradients count without the
    loss's scale, which changes between steps. A step in which one of them
    overflows is left out of all scores, as GradScaler leaves it out of the
    weights: in the others alone it would shift the order.

    Validation, saving and all that ``ScalerScheduleHook`` says of them are
    the same here: outside of training steps the network is the student.

    Args:
        end: Where the last branch goes, in epochs or iterations; before
            the end of the training. None for half of the training.
        begin: Where the first turn begins. Scores are learned before, too.
        by_epoch: Whether ``begin`` and ``end`` are epochs.

    Raises:
        ValueError: If an argument is not one of those above.
    """

    def __init__(
        self, end: int | None = None, begin: int = 0, by_epoch: bool = True
    ) -> None:
        # As many steps as branches, once their number is known.
        super().__init__(
            end, begin, by_epoch, shape='step', steps=1, gates=['expand']
        )
        self.scores: dict[str, float] = {}
        self.dropped: list[str] = []
        self._gates: dict[str, Gated] = {}
        self._gradients: dict[str, Tensor] = {}
        self._loss_scale = 1.0
        self._handles: list[Any] = []

    def moving(
        self, network: nn.Module, total: int, epoch_length: int | None
    ) -> dict[str, tuple[dict[str, Gated], Ramp]]:
        """Return all branches as one unit, and when they go.

        Raises:
            ValueError: As in ``ScalerScheduleHook``, or if there are fewer
                iterations than branches.
        """
        moving = super().moving(network, total, epoch_length)
        ((gates, ramp),) = moving.values()
        if len(gates) > ramp.end - ramp.begin:
            raise ValueError(
                f'{self.schedule.hook} has {len(gates)} branches to leave out '
                f'one by one in {ramp.end - ramp.begin} iterations. Set an '
                'earlier begin or a later end.'
            )
        return moving

    def fading_ramps(
        self, network: nn.Module, total: int, epoch_length: int | None
    ) -> dict[str, tuple[dict[str, Gated], Ramp]]:
        """Return each branch with the mean of the times when one may go."""
        ((gates, ramp),) = self.moving(network, total, epoch_length).values()
        length = (ramp.end - ramp.begin) * (len(gates) + 1) / (2 * len(gates))
        mean = replace(ramp, end=ramp.begin + round(length))
        return {name: ({name: gate}, mean) for name, gate in gates.items()}

    def before_train(self, runner: Runner) -> None:
        """Find the branches; go on with the scores of a resumed run.

        Raises:
            ValueError: As in ``ScalerScheduleHook``.
        """
        super().before_train(runner)
        ((self._gates, _),) = self._moving
        saved = runner.message_hub.runtime_info.get(MASK, {})
        self.scores = dict(
            saved.get('scores', dict.fromkeys(self._gates, 0.0))
        )
        self.dropped = list(saved.get('dropped', []))
        for name, gated in self._gates.items():
            assert isinstance(gated, Host)
            self._handles.append(
                gated.expand.register_forward_hook(self._watch(name))
            )

    def after_train(self, runner: Runner) -> None:
        """Leave nothing behind in the network."""
        while self._handles:
            self._handles.pop().remove()

    def before_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | Sequence | None = None,
    ) -> None:
        """Drop what must go, and set the gates of this iteration."""
        ((_, ramp),) = self._moving
        count = len(self._gates)
        share = replace(ramp, steps=count).value(runner.iter)
        while len(self._kept()) > round(share * count):
            lowest = min(self._kept(), key=self.scores.__getitem__)
            self.dropped.append(lowest)
            runner.logger.info(
                f'Iteration {runner.iter}: the branch of `{lowest}` goes, '
                f'with the lowest score of {self.scores}.'
            )
        set_gates({name: self._gates[name] for name in self._kept()}, 1.0)
        if self._kept():
            # After the step it may be the next one's.
            self._loss_scale = _loss_scale(runner)
        self.log_scaler(runner, len(self._kept()) / count)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | Sequence | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Learn the scores; leave the student to whatever comes next.

        Raises:
            RuntimeError: If no gradient has come to any branch.
        """
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        kept = self._kept()
        if not kept:
            return
        if not self._gradients:
            raise RuntimeError(
                'LearnedMaskHook: no gradient reaches any of the branches '
                f'{kept}, so no score can be learned: the loss does not '
                'depend on them, as if features were detached behind the '
                'last one. Let the loss see them, or fade them by a '
                'ScalerScheduleHook.'
            )
        # One that the loss did not depend on this time has the gradient 0.
        zero = torch.zeros_like(next(iter(self._gradients.values())))
        gradients = torch.stack([self._gradients.get(n, zero) for n in kept])
        self._gradients.clear()
        gradients /= self._loss_scale
        all_reduce(gradients, op='mean')  # all processes drop the same
        values = gradients.tolist()
        if all(map(math.isfinite, values)):
            for name, gradient in zip(kept, values, strict=True):
                self.scores[name] -= gradient
        state = dict(scores=dict(self.scores), dropped=list(self.dropped))
        runner.message_hub.update_info(MASK, state)

    def _kept(self) -> list[str]:
        return [name for name in self._gates if name not in self.dropped]

    def _watch(self, name: str) -> Any:
        """Return a forward hook that takes the gradient by a branch's gate."""

        def add(branch: Tensor, grad: Tensor) -> None:
            # In half precision the products alone may overflow.
            gradient = (grad.detach().float() * branch.float()).sum()
            before = self._gradients.get(name)
            self._gradients[name] = (
                gradient if before is None else before + gradient
            )

        def watch(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            if not torch.is_grad_enabled():  # the teacher's own pass
                return output
            if not output.requires_grad:  # all before it is frozen
                output = output.detach().requires_grad_()
            branch = output.detach()
            output.register_hook(lambda grad: add(branch, grad))
            return output

        return watch


def _loss_scale(runner: Runner) -> float:
    """Return the factor of the loss in the coming backward pass."""
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    return 1.0 if scaler is None else scaler.get_scale()
