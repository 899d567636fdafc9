# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Weight reuse: what the student takes from the teacher, what it keeps.

Two separate axes: ``inherit`` says which of the teacher's values the student
starts from, ``freeze`` which of its tensors do not train.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from ..supernet import is_branch_key

ROLES = {'classifier': r'head\..+'}
"""Role -> regular expression of the parameter names that play it."""


@dataclass(frozen=True)
class WeightReuse:
    """The policy of one stage.

    Args:
        inherit: ``'all'``: the student starts as the teacher without its
            branches.
        freeze: Roles (keys of ``ROLES``) whose parameters do not train.
            Branches never train in a two-stage student.

    Raises:
        ValueError: If a value is not one of those.
    """

    inherit: str = 'all'
    freeze: Iterable[str] = ()

    def __post_init__(self) -> None:
        if self.inherit != 'all':
            raise ValueError(
                f"model.reuse.inherit must be 'all', got {self.inherit!r}."
            )
        if isinstance(self.freeze, str):
            raise ValueError(
                'model.reuse.freeze must be a list of roles, got the string '
                f'{self.freeze!r}. Write freeze=[{self.freeze!r}].'
            )
        unknown = [role for role in self.freeze if role not in ROLES]
        if unknown:
            raise ValueError(
                f'model.reuse.freeze has unknown roles {unknown}; known are '
                f'{sorted(ROLES)}.'
            )

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

    def freeze_(self, architecture: nn.Module) -> None:
        """Stop training the branches and the tensors of the frozen roles.

        Raises:
            ValueError: If a role matches no parameter, or nothing is left
                to train. Nothing is changed then.
        """
        names = [name for name, _ in architecture.named_parameters()]
        frozen = {name for name in names if is_branch_key(name)}
        for role in self.freeze:
            matched = {n for n in names if re.fullmatch(ROLES[role], n)}
            if not matched:
                raise ValueError(
                    f'model.reuse.freeze: no parameter of the architecture '
                    f'plays the role {role!r} ({ROLES[role]}).'
                )
            frozen |= matched
        if not any(
            p.requires_grad and name not in frozen
            for name, p in architecture.named_parameters()
        ):
            raise ValueError(
                'nothing is left to train: model.reuse.freeze='
                f'{list(self.freeze)} and backbone.frozen_stages freeze '
                'every parameter of the student.'
            )
        for name, param in architecture.named_parameters():
            if name in frozen:
                param.requires_grad_(False)


def describe_training(architecture: nn.Module) -> str:
    """Say how much of the student trains and how much is frozen."""
    sizes: dict[bool, list[int]] = {True: [], False: []}
    for name, param in architecture.named_parameters():
        if not is_branch_key(name):
            sizes[param.requires_grad].append(param.numel())
    return (
        f'{len(sizes[True])} tensors ({sum(sizes[True]):,} parameters) train, '
        f'{len(sizes[False])} ({sum(sizes[False]):,}) are frozen'
    )
