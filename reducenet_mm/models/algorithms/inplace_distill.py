# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""In-place training: teacher and student learn at once, in one network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.utils import add_prefix
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..supernet import STUDENT, TEACHER, View, apply_view, using_view
from .distiller import (
    build_distiller,
    compare_student,
    record_teacher,
    release_records,
)
from .idle_losses import idle_distiller_losses
from .inplace_settings import (
    check_inplace_architecture,
    check_inplace_settings,
)
from .position import Position
from .shared_supernet import SharedSupernet
from .teacher_overlay import TeacherOverlay, call_with, other_buffers

Losses = dict[str, Tensor]


@MODELS.register_module()
class InplaceDistill(SharedSupernet):
    """Train teacher and student in one stage, on the same weights.

    Each step computes both networks in training mode and adds up
    ``teacher_weight`` times the teacher's own losses, the student's own
    losses, and those of the distiller, in which the teacher's records are
    constants. All weights are shared, the affine parameters of norms too;
    the statistics of the student's norms are not: ``teacher_overlay`` holds
    the teacher's. So a checkpoint is one of a distillation: both networks
    come back from it.

    Sources: in-place distillation and the sandwich rule of "Universally
    Slimmable Networks" (Yu and Huang 2019), as MMRazor's ``BigNAS``; we
    deviate in that the networks share one backward pass and one update, all
    have label losses, and batch norms keep statistics of their own. Without
    a distiller it is "Network Augmentation" (NetAug, arXiv 2110.08890) with
    ``teacher_weight`` its alpha and one fixed augmentation, the branches.

    Args:
        architecture: Config or instance of the supernet: any MMEngine model
            with ReduceNet branches. To start from a trained supernet, set
            its ``init_cfg=dict(type='Pretrained', ...)``.
        distiller: Config of MMRazor's ``ConfigurableDistiller``. Recorder
            sources are names inside ``architecture``. None: the branches
            are auxiliary supervision only.
        ramp: Share of the training's iterations in which the weight of the
            distiller's losses rises linearly from 0 to 1; from 0, which is
            no ramp, to 1.
        sandwich: Number of networks with a scaler between 0 and 1 which
            each step computes too, as further students. Their scalers are
            drawn by the Runner's seed and the iteration; the statistics of
            their batches are not kept.
        teacher_weight: Factor of the teacher's own losses, > 0.
        predict_view: Which network validation, test and prediction answer
            with, ``'student'`` or ``'teacher'``.
        data_preprocessor: Defaults to the architecture's. A config is given
            to the architecture unless that has one of its own.
        init_cfg: As in MMEngine.
        module_inplace: Leave in-place activations; only safe if no recorder
            reads a tensor that one overwrites.

    Raises:
        ValueError: If an argument is not one of those above, or the
            architecture cannot be trained as both networks at once.
    """

    teacher_overlay: TeacherOverlay  # always there

    def __init__(
        self,
        architecture: BaseModel | dict,
        distiller: dict | None = None,
        ramp: float = 0.0,
        sandwich: int = 0,
        teacher_weight: float = 1.0,
        predict_view: str = 'student',
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
        module_inplace: bool = False,
    ) -> None:
        check_inplace_settings(
            distiller, ramp, sandwich, teacher_weight, predict_view
        )
        super().__init__(
            architecture,
            predict_view,
            data_preprocessor,
            init_cfg,
            module_inplace,
        )
        norms = check_inplace_architecture(self.architecture)
        apply_view(self.architecture, STUDENT)
        self.ramp = ramp
        self.sandwich = sandwich
        self.teacher_weight = teacher_weight
        self.position: Position | None = None  # InplaceHook sets it
        if distiller is not None:
            self.distiller = build_distiller(
                distiller, self.architecture, self.data_preprocessor
            )
        self.teacher_overlay = TeacherOverlay(
            self.architecture, _statistics(self.architecture, norms)
        )

    def init_weights(self) -> None:
        """Initialise both networks; only once, as in MMEngine."""
        done = self._is_init
        super().init_weights()
        if not done:  # statistics too may come from a file
            self.teacher_overlay.copy_(self.architecture.state_dict())

    def set_position(
        self, *, seed: int, iteration: int, max_iters: int
    ) -> None:
        """Say where the training is, before each step; see `Position`."""
        self.position = Position(
            seed=seed, iteration=iteration, max_iters=max_iters
        )

    def distill_weight(self) -> float:
        """Return this step's factor of the distiller's losses, in (0, 1].

        Raises:
            RuntimeError: If it depends on a position that is not known.
        """
        if self.ramp == 0:
            return 1.0
        return self._known_position().ramp(self.ramp)

    def missing_hooks(self) -> dict[str, str]:
        """As of :meth:`SupernetDistill.missing_hooks`."""
        if self.position is not None or self.ramp == self.sandwich == 0:
            return {}
        return dict(
            InplaceHook=f'model.ramp={self.ramp} and model.sandwich='
            f'{self.sandwich} depend on the iteration, which is not known: '
            "add dict(type='InplaceHook') to custom_hooks."
        )

    def sandwich_scalers(self) -> list[float]:
        """Draw this step's scalers between student and teacher, in (0, 1].

        Raises:
            RuntimeError: If the position is not known.
        """
        if self.sandwich == 0:
            return []
        return self._known_position().draw_scalers(self.sandwich)

    def _known_position(self) -> Position:
        for reason in self.missing_hooks().values():
            raise RuntimeError(reason)
        assert self.position is not None
        return self.position

    def loss(
        self,
        inputs: Tensor,
        data_samples: list[BaseDataElement] | None = None,
    ) -> Losses:
        """Compute the losses of all networks of a step.

        Args:
            inputs: Preprocessed batch, ``(N, C, H, W)``.
            data_samples: Its labels.

        Returns:
            ``teacher.<name>``, ``student.<name>``, ``distill.<name>``; for
            the i-th network between them ``sandwich_<i>.<name>`` and
            ``distill.sandwich_<i>.<name>``. All are weighted. When a
            distiller that trains has been stopped, ``distill.loss_idle``,
            which is 0.
        """
        batch = inputs, data_samples
        overlay = self.teacher_overlay.tensors()
        teacher = partial(self._call, TEACHER, overlay, batch)
        students = {'student': partial(self._call, STUDENT, {}, batch)}
        for i, scaler in enumerate(self.sandwich_scalers()):
            students[f'sandwich_{i}'] = partial(self._between, scaler, batch)
        distiller = self.active_distiller()
        if distiller is None:
            own = {name: student() for name, student in students.items()}
            own['distill'] = idle_distiller_losses(self.distiller)
            return {**self._teachers(teacher()), **_named(own)}
        return self._distill(distiller, teacher, students)

    def _distill(
        self,
        distiller: ConfigurableDistiller,
        teacher: Callable[[], Losses],
        students: Mapping[str, Callable[[], Losses]],
    ) -> Losses:
        weight = self.distill_weight()
        losses = self._teachers(record_teacher(distiller, teacher))
        for name, student in students.items():
            own, soft = compare_student(distiller, student)
            prefix = 'distill' if name == 'student' else f'distill.{name}'
            losses.update(_named({name: own, prefix: _scaled(soft, weight)}))
        release_records(distiller)
        return losses

    def _teachers(self, losses: Losses) -> Losses:
        return _named(dict(teacher=_scaled(losses, self.teacher_weight)))

    def _call(
        self, view: View, buffers: Mapping[str, Tensor], batch: tuple
    ) -> Losses:
        """Compute one network's losses; ``buffers`` take its statistics."""
        with using_view(self.architecture, view):
            return call_with(self.architecture, buffers, *batch, mode='loss')

    def _between(self, scaler: float, batch: tuple) -> Losses:
        """Compute a network between the two; keep no statistics of it."""
        saved = self.architecture.state_dict()
        discarded = {
            name: buffer.clone()
            for name, buffer in self.architecture.named_buffers()
            if name in saved
        }
        return self._call(View.of_scaler(scaler), discarded, batch)


def _statistics(architecture: nn.Module, norms: tuple[str, ...]) -> list[str]:
    """Return the keys of the statistics of ``norms``, and of such buffers.

    All keys, where a network has one of them under several names.
    """
    names = other_buffers(architecture) + [
        key
        for norm in norms
        for key, _ in architecture.get_submodule(norm).named_buffers(norm)
    ]
    state = architecture.state_dict(keep_vars=True)
    moving = {id(state[name]) for name in names}
    return [key for key, tensor in state.items() if id(tensor) in moving]


def _scaled(losses: Losses, weight: float) -> Losses:
    """Multiply what is summed, by MMEngine's rule: names with "loss"."""
    return {
        key: _times(value, weight) if 'loss' in key else value
        for key, value in losses.items()
    }


def _times(loss: Any, weight: float) -> Any:
    """Weight a loss, which may be a list: detectors have one a level."""
    if isinstance(loss, (list, tuple)):
        return [_times(one, weight) for one in loss]
    return loss * weight


def _named(losses: Mapping[str, Losses]) -> Losses:
    named: Losses = {}
    for prefix, values in losses.items():
        named.update(add_prefix(values, prefix))
    return named
