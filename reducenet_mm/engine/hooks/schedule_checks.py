# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which models hooks that anneal the scaler cannot train, and why."""

from __future__ import annotations

from torch import nn

from reducenet_mm.models.layers import Gated, Host
from reducenet_mm.models.supernet import is_lora_key


def check_model(model: nn.Module, gates: dict[str, Gated], hook: str) -> None:
    """Raise ``ValueError`` unless ``model`` can train with moving gates.

    Args:
        model: What will be trained; only read.
        gates: Those that move, by name.
        hook: Name of the hook's class, for errors.
    """
    is_algorithm = hasattr(model, 'architecture')
    if is_algorithm and not hasattr(model, 'trained_branches'):
        raise ValueError(
            f'{hook} anneals a plain network or SupernetDistill; '
            f'{type(model).__name__} sets its gates by itself. Leave the '
            'hook out.'
        )
    active = [name for name, gated in gates.items() if gated.scaler != 0]
    if active:
        raise ValueError(
            f'{hook} needs a model that is built as the student, which is '
            f'what it validates and ships; `{active[0]}` has '
            f'scaler={gates[active[0]].scaler}. Set model.backbone.scaler=0 '
            '(the hook has a `start` of its own).'
        )
    if getattr(model, 'norm_stats', None) == 'recalibrated':
        raise ValueError(
            f"model.norm_stats='recalibrated' with {hook}: the statistics "
            'would be those of the student without branches, kept while it '
            "trains with them. Set model.norm_stats to 'live' or "
            "'inherited'."
        )
    fading = any(gated.gate == 'expand' for gated in gates.values())
    # The activation in a lora is the student's own: it begins there.
    others = [
        f'{name}.expand' if isinstance(gated, Host) else name
        for name, gated in gates.items()
        if not is_lora_key(name)
    ]
    if others and getattr(model, 'student_init', None) is not None:
        raise ValueError(
            f'model.student_init={model.student_init!r} with {hook}: that '
            f'student has ended without `{others[0]}`, so the network with '
            'it would be neither that student nor the teacher. Leave one of '
            'the two out, or anneal the activation inside a lora alone: '
            "gates=['lambda_relu'], for a block other than 'sequential'."
        )
    if getattr(model, 'trained_branches', ()) and not fading:
        raise ValueError(
            f'model.train_branches=True, but {hook}.gates leaves the '
            "branches at 0, where they learn nothing. Add 'expand'."
        )


def check_wrapper(
    wrapper: nn.Module, gates: dict[str, Gated], hook: str
) -> None:
    """Raise ``ValueError`` if processes would wait for idle branches."""
    trains = any(
        param.requires_grad
        for gated in gates.values()
        if isinstance(gated, Host)
        for param in gated.expand.parameters()
    )
    if trains and not getattr(wrapper, 'find_unused_parameters', False):
        raise ValueError(
            f'{hook} in several processes on a network whose branches '
            'train: they have no gradient once the scaler is 0. Set '
            'model_wrapper_cfg.find_unused_parameters=True, or use '
            'SupernetDistill.'
        )
