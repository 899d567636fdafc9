# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Values of gates: one, and a full setting of all of them."""

from __future__ import annotations

from dataclasses import dataclass

from reducenet_mm.plain_numbers import is_number


def check_scaler(value: float) -> float:
    """Return ``value`` as a float, or raise if it is no gate's value.

    Raises:
        ValueError: If ``value`` is not a plain number in [0, 1].
    """
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(
            f'scaler must be a plain number in [0, 1], got {value!r}. Set '
            '`scaler` in the backbone config (or pass it to set_scaler): '
            '1 is the teacher, 0 the student.'
        )
    return float(value)


@dataclass(frozen=True, kw_only=True)
class View:
    """A full setting of all gates.

    Attributes:
        expand: Weight of every ``expand`` branch, in [0, 1]. 0 means that
            the branches are not computed.
        lora: Whether the ``lora`` branches are on, where there are any.
        lambda_relu: Gate of every ``LambdaReLU``, in [0, 1]: ReLU at 1,
            identity at 0.
    """

    expand: float
    lora: bool
    lambda_relu: float

    def __post_init__(self) -> None:
        check_scaler(self.expand)
        check_scaler(self.lambda_relu)
        if not isinstance(self.lora, bool):
            raise ValueError(
                f'a view has lora on (True) or off (False), got {self.lora!r}.'
            )

    @classmethod
    def of_scaler(cls, value: float) -> View:
        """Return the view of one number: 1 the teacher, 0 the student.

        Between them it is a student on its way: ``lora`` is on.

        Raises:
            ValueError: If ``value`` is not a plain number in [0, 1].
        """
        value = check_scaler(value)
        return cls(expand=value, lora=value < 1, lambda_relu=value)


TEACHER = View.of_scaler(1.0)
STUDENT = View.of_scaler(0.0)
