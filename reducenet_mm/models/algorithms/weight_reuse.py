# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Weight reuse: what the student takes from the teacher, what it keeps.

Two separate axes: ``inherit`` says which of the teacher's values the student
starts from, ``freeze`` which of its tensors do not train.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from ..roles import check_patterns, match_parameters
from ..supernet import hosts, is_branch_key, is_lora_key

INHERIT, FREEZE = 'model.reuse.inherit', 'model.reuse.freeze'


@dataclass(frozen=True)
class WeightReuse:
    """The policy of one stage.

    Both axes take names of :data:`~reducenet_mm.models.roles.ROLES` and
    ``'re:<regex>'``, a regular expression to match the full name of a
    parameter inside the architecture; or ``'all'``, which means the student
    without its ``lora`` branches: those are no teacher's.

    Args:
        inherit: Which parameters start with the teacher's values. ``'all'``:
            the student starts as the teacher without its branches. What is
            left out starts as the architecture initialises it (if the seed
            is the teacher's: as the teacher itself once started), and so
            does a ``lora`` branch; ``[]`` is a fresh student. Buffers, such
            as a norm's statistics, follow the parameters of their module,
            or, if it has none, of the innermost one around it.
        freeze: Which parameters do not train. ``'all'``: only the ``lora``
            branches do. ``expand`` branches do not train in a two-stage
            student unless ``train_branches`` is set.

    Raises:
        ValueError: If a value is not one of those.
    """

    inherit: str | Sequence[str] = 'all'
    freeze: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        for key, value in ((INHERIT, self.inherit), (FREEZE, self.freeze)):
            if value == 'all':
                continue
            if isinstance(value, str):
                raise ValueError(
                    f"{key} must be 'all' or a list of roles, got {value!r}. "
                    f'Write {key.rpartition(".")[2]}=[{value!r}].'
                )
            check_patterns(value, key)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> WeightReuse:
        """Build the policy from the config's ``model.reuse``."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(config) - known)
        if unknown:
            raise ValueError(
                f'model.reuse has unknown keys {unknown}; known are '
                f'{sorted(known)}.'
            )
        return cls(**config)

    def apply_(
        self, architecture: nn.Module, has_start: bool = False
    ) -> tuple[str, ...]:
        """Stop training the branches and what is frozen.

        Args:
            architecture: The supernet.
            has_start: Whether a student's checkpoint gives all of the
                student its start.

        Returns:
            Keys of the student's tensors that are not inherited.

        Raises:
            ValueError: If a pattern matches no parameter, nothing is left
                to train, or a tensor would keep its random start. Nothing
                is changed then.
        """
        fresh = self._fresh_names(architecture)
        # A shared parameter is frozen by any of its names.
        every = dict(architecture.named_parameters(remove_duplicate=False))
        frozen = {id(every[n]) for n in self._frozen_names(architecture)}
        params = dict(architecture.named_parameters())
        trained = {
            name
            for name, param in params.items()
            if param.requires_grad
            and id(param) not in frozen
            and not is_branch_key(name)
        }
        if not trained:
            raise ValueError(
                f'nothing is left to train: {FREEZE}={self.freeze!r} and '
                'backbone.frozen_stages freeze every parameter of the '
                "student. With 'all' it needs backbone.lora."
            )
        new = set(fresh)
        if not has_start:
            new |= _never_inherited(architecture)
        random = [n for n in params if n in new and n not in trained]
        if random:
            raise ValueError(
                f'{random[0]} and {len(random) - 1} more parameters would '
                f'stay at their random start: {INHERIT}={self.inherit!r} or '
                f"backbone.student_conv='fresh' leaves them out, and {FREEZE}="
                f'{self.freeze!r} or backbone.frozen_stages freezes them. '
                'Inherit what is frozen, or train it.'
            )
        for name, param in params.items():
            param.requires_grad_(name in trained)
        return fresh

    def _frozen_names(self, architecture: nn.Module) -> set[str]:
        if self.freeze == 'all':
            names = (name for name, _ in architecture.named_parameters())
            return {name for name in names if not is_lora_key(name)}
        matched = match_parameters(architecture, self.freeze, FREEZE)
        return set[str]().union(*matched.values())

    def _fresh_names(self, architecture: nn.Module) -> tuple[str, ...]:
        if self.inherit == 'all':
            return ()
        matched = match_parameters(architecture, self.inherit, INHERIT)
        inherited = set[str]().union(*matched.values())
        for name, module in architecture.named_modules():
            buffers = module.named_buffers(name, recurse=False)
            keys = {key for key, _ in buffers}
            if keys and _nearest_parameters(architecture, name) <= inherited:
                inherited |= keys
        own = architecture.state_dict(keep_vars=True)
        kept = {id(own[key]) for key in inherited if key in own}
        return tuple(
            key
            for key, tensor in own.items()
            if id(tensor) not in kept
            and not is_branch_key(key)
            and not is_lora_key(key)
        )


def _nearest_parameters(architecture: nn.Module, name: str) -> set[str]:
    """Return what a module's buffers follow: the parameters beside them.

    Those of the innermost module around it if it has none, such as a norm
    without scale and shift; branches, which start anew, left out.
    """
    own = architecture.get_submodule(name).named_parameters(name, False)
    found = {key for key, _ in own}
    while not found and name:
        name = name.rpartition('.')[0]
        around = architecture.get_submodule(name).named_parameters(name)
        found = {
            key
            for key, _ in around
            if not is_branch_key(key) and not is_lora_key(key)
        }
    return found


def _never_inherited(architecture: nn.Module) -> set[str]:
    """Return the parameters of new convolutions that begin anew."""
    return {
        f'{name}.{key}'
        for name, host in hosts(architecture)
        if not host.inherits
        for key, _ in host.named_parameters(recurse=False)
    }


def describe_reuse(
    architecture: nn.Module,
    fresh: Collection[str],
    student_init: str | None = None,
) -> str:
    """Say how much of the student is inherited, fresh, trained, frozen.

    Args:
        architecture: The supernet.
        fresh: Names of what the teacher does not give.
        student_init: What the student starts from, if not from the teacher.
    """
    student = {
        name: param
        for name, param in architecture.named_parameters()
        if not is_branch_key(name)
    }

    def count(params: Iterable[nn.Parameter]) -> str:
        sizes = [param.numel() for param in params]
        return f'{len(sizes)} tensors ({sum(sizes):,} parameters)'

    trained = {n for n, param in student.items() if param.requires_grad}
    own = {*fresh, *_never_inherited(architecture)}
    new = {name for name in student if name in own or is_lora_key(name)}
    inherited = count(p for n, p in student.items() if n not in new)
    started = count(p for n, p in student.items() if n in new)
    training = count(p for n, p in student.items() if n in trained)
    frozen = count(p for n, p in student.items() if n not in trained)
    start = f'inherits {inherited} of it and starts {started} afresh'
    if student_init is not None:
        start = f'starts from model.student_init={student_init!r} instead'
    return f'The student {start}; {training} train, {frozen} are frozen'
