# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Branches that train while they fade out, instead of staying the teacher's.

They are then the student's like any other tensor that trains: in the
optimizer, with the teacher's values in the overlay.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..supernet import is_branch_key, is_lora_key, student_gates
from .weight_reuse import WeightReuse


def apply_reuse_(
    policy: WeightReuse,
    architecture: nn.Module,
    train_branches: bool,
    has_start: bool = False,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Freeze what the policy says, but not the branches if they train.

    Args:
        policy: What the student inherits and what does not train.
        architecture: The supernet.
        train_branches: Whether the branches train, as far as the host lets
            them.
        has_start: As :meth:`WeightReuse.apply_` takes it.

    Returns:
        Keys of the student's tensors that are not inherited, and names of
        the branches' parameters that train.

    Raises:
        ValueError: If the policy does not fit, or no branch could train.
            Nothing is changed then.
    """
    params = dict(architecture.named_parameters())
    names = tuple(
        name
        for name, param in params.items()
        if train_branches and is_branch_key(name) and param.requires_grad
    )
    if train_branches and not names:
        raise ValueError(
            'model.train_branches=True, but no branch could train: the '
            "pair of block='sequential' is the student's and trains anyway, "
            'and backbone.frozen_stages freezes. Leave it out.'
        )
    fresh = policy.apply_(architecture, has_start)
    for name in names:
        params[name].requires_grad_(True)
    return fresh, names


def needs_schedule(
    architecture: nn.Module, trained_branches: Sequence[str]
) -> bool:
    """Whether something is to train that is off unless a hook anneals it.

    Args:
        architecture: The supernet.
        trained_branches: Names of the branches' parameters that train.
    """
    activations = student_gates(architecture, 'lambda_relu')
    return bool(trained_branches) or any(map(is_lora_key, activations))


def changing_branch_names(architecture: nn.Module) -> list[str]:
    """Return the keys of all tensors in branches that may change.

    Args:
        architecture: The supernet in training mode, frozen where it does
            not train.
    """
    params = architecture.named_parameters()
    names = [n for n, p in params if is_branch_key(n) and p.requires_grad]
    saved = architecture.state_dict()
    for name, module in architecture.named_modules():
        if is_branch_key(name) and module.training:
            buffers = module.named_buffers(name, recurse=False)
            names += [key for key, _ in buffers if key in saved]
    return names
