# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Whether modules still train whose ``forward`` MMEngine replaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from operator import attrgetter
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from reducenet_mm.models.supernet import hosts
from reducenet_mm.spelling import did_you_mean

from .trial import evaluating

_RECOMPUTED, _TRACED = 'activation_checkpointing', 'efficient_conv_bn_eval'
_SIZE = 64
"""Of an image: enough for strides of 32, and little to compute."""


def check_forwards(cfg: Config, model: nn.Module) -> None:
    """Refuse top-level keys that would break the training, silently.

    Args:
        cfg: The full config.
        model: What ``cfg.model`` builds, on the CPU; it is left as it was.

    Raises:
        ValueError: If one names no module of the model, or
            ``activation_checkpointing`` one that it would cut off from its
            gradient, or ``efficient_conv_bn_eval`` one with gates.
    """
    _check_recomputed(cfg, model)
    _check_traced(cfg, model)


def _check_recomputed(cfg: Config, model: nn.Module) -> None:
    for name in _cut_off(model, _named(cfg, _RECOMPUTED, model)):
        raise ValueError(
            f'{_RECOMPUTED}={cfg[_RECOMPUTED]!r}: {name!r} would not train. '
            'None of the tensors that it is given needs a gradient, as where '
            'all before it is frozen (model.reuse.freeze, '
            'backbone.frozen_stages), so that torch computes none inside it '
            'either, without a word. Leave it out, or set '
            'backbone.with_cp=True instead, which copes with that.'
        )


def _check_traced(cfg: Config, model: nn.Module) -> None:
    for name, module in _named(cfg, _TRACED, model).items():
        for inner, _ in hosts(module):
            raise ValueError(
                f'{_TRACED}={cfg[_TRACED]!r} traces {name!r} once and for '
                f'all, and the gate of `{name}.{inner}` would stay as it is '
                'then, whatever is set later. Leave it out.'
            )


def _named(cfg: Config, key: str, model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that a key names, as MMEngine finds them."""
    names = cfg.get(key) or ()
    modules = {}
    for name in [names] if isinstance(names, str) else names:
        try:
            modules[name] = attrgetter(name)(model)
        except AttributeError as error:
            known = [known for known, _ in model.named_modules()]
            raise ValueError(
                f'{key}: the model has no module {name!r}. '
                f'{did_you_mean(name, known) or "Leave it out."}'.rstrip()
            ) from error
    return modules


def _cut_off(model: nn.Module, modules: Mapping[str, nn.Module]) -> list[str]:
    """Return the names of modules that would train, but for their inputs.

    An image goes through the model, as the order in which modules run is not
    always that in which they are registered. Modules that it does not reach
    are passed over.
    """
    trained = {
        name: module
        for name, module in modules.items()
        if any(param.requires_grad for param in module.parameters())
    }
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    if not trained or not convs:
        return []
    image = torch.zeros(1, convs[0].in_channels, _SIZE, _SIZE)
    reached: dict[str, bool] = {}
    handles = [
        module.register_forward_pre_hook(_watch(name, reached))
        for name, module in trained.items()
    ]
    # An algorithm may answer as its teacher, which has no gradient.
    network = getattr(model, 'architecture', model)
    # What cannot take an image of that size may have told enough by then.
    with evaluating(model), torch.enable_grad(), suppress(Exception):
        network(image, mode='tensor')
    for handle in handles:
        handle.remove()
    return [name for name, needed in reached.items() if not needed]


def _watch(
    name: str, reached: dict[str, bool]
) -> Callable[[nn.Module, tuple], None]:
    """Return a hook that notes whether any call is given a gradient's way."""

    def watch(module: nn.Module, args: tuple[Any, ...]) -> None:
        if not torch.is_grad_enabled():  # the teacher's own pass
            return
        # Those inside lists do not count: torch's checkpoint overlooks them.
        tensors = [value for value in args if isinstance(value, Tensor)]
        needed = any(tensor.requires_grad for tensor in tensors)
        reached[name] = reached.get(name, False) or needed

    return watch
