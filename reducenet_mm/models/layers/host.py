# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What views, grafts and loaders may ask of any layer with a branch.

Three small bases, so that nothing else need know the single kinds of layer:
``Gated`` has a gate, ``Replaceable`` leaves something plain behind, and a
``Host`` stands where the student has one convolution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn

from .views import STUDENT

EXPAND, LORA = 'expand', 'lora'
"""Names of the children which a host convolution may carry."""


class Gated:
    """A module with a gate, which a view sets.

    ``scaler`` is a plain float in [0, 1], neither parameter nor buffer.
    Read it freely; only :mod:`reducenet_mm.models.supernet` writes it.

    Attributes:
        gate: The field of ``supernet.View`` that the gate follows.
        scaler: The gate's value.
    """

    gate: ClassVar[str]
    scaler: float


class Replaceable(nn.Module, ABC):
    """A module with more than the student needs."""

    @abstractmethod
    def student(self) -> nn.Module:
        """Return the plain module that stands here in the student."""


class Host(Replaceable):
    """A layer at the place of one of the student's convolutions.

    Attributes:
        scaler: 1 if it computes as in the teacher, 0 as in the student.
        refitted: Whether only the student is left of it.
        deploy: Whether it is that student's plain convolution, in tensors
            and keys.
        expand: The teacher's own part, which no student trains; an empty
            module where there is none.
        inherits: Whether the student's convolution takes its start from a
            loaded teacher.
    """

    scaler: float
    refitted: bool = False
    deploy: bool = False
    expand: nn.Module
    inherits: bool = True

    @abstractmethod
    def student_conv(self) -> nn.Conv2d:
        """Return the student's convolution, all that merges merged.

        The student is that of ``supernet.STUDENT``, whatever the gates say.

        Returns:
            A new convolution; it shares the parameters that it can share.
        """

    def student(self) -> nn.Module:
        """Return the student's convolution."""
        return self.student_conv()

    def switch_to_deploy(self) -> None:
        """Become the student's convolution, all that merges merged, in place.

        Only ``weight`` and maybe ``bias`` are left; a merged norm leaves a
        bias where there was none. Does nothing on a layer already switched.
        On failure the layer is unchanged.

        Raises:
            RuntimeError: If the layer does not compute as the student does.
        """
        if self.deploy:
            return
        check_is_student(self)
        self.keep_only(self.student_conv())

    @abstractmethod
    def keep_only(self, conv: nn.Conv2d) -> None:
        """Take over the parameters of ``conv`` and drop all else.

        Args:
            conv: A convolution of this layer's geometry.
        """

    def reset_branches(self) -> None:
        """Restore the start of what this layer adds to a convolution."""

    def adapt_state(self, state: dict[str, Tensor], prefix: str) -> None:
        """Complete a teacher's state dict by what this layer introduces.

        Args:
            state: State dict of a network around this layer, trained
                without what is new in this one; changed in place.
            prefix: What this layer's keys start with.
        """


def hosts(model: nn.Module) -> Iterator[tuple[str, Host]]:
    """Yield name and module of every layer with a branch or a pair."""
    for name, module in model.named_modules():
        if isinstance(module, Host):
            yield name, module


def check_is_student(model: nn.Module) -> None:
    """Raise unless ``model`` computes as its student does.

    Raises:
        RuntimeError: If a gate on the student's way has another value than
            in ``supernet.STUDENT``.
    """
    for name, gated in model.named_modules():
        if not isinstance(gated, Gated) or EXPAND in name.split('.'):
            continue
        wanted = getattr(STUDENT, gated.gate)
        if gated.scaler != wanted:
            raise RuntimeError(
                'only the student can be switched to deploy, got scaler='
                f'{gated.scaler} of `{name or type(model).__name__}` '
                f'instead of {float(wanted)}. Call '
                'reducenet_mm.set_scaler(model, 0.0) first, or set '
                'model.backbone.scaler=0 in the config.'
            )
