# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The teacher inside the student's instance.

Everything that the student does not change is shared. The overlay holds the
teacher's values of the rest: together they are the teacher.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from ..supernet import TEACHER, is_branch_key, is_lora_key, using_view


class TeacherOverlay(nn.Module):
    """Buffers under the names of the tensors that they stand in for.

    Args:
        architecture: The supernet; gives shape, dtype and first values.
        names: Keys of its state dict.
    """

    def __init__(self, architecture: nn.Module, names: Iterable[str]) -> None:
        super().__init__()
        state = architecture.state_dict(keep_vars=True)
        copies: dict[int, Tensor] = {}  # one, also of a tensor with two names
        for name in names:
            *path, leaf = name.split('.')
            node: nn.Module = self
            for part in path:
                if part not in node._modules:
                    node.add_module(part, nn.Module())
                node = node.get_submodule(part)
            own = state[name]
            if id(own) not in copies:
                copies[id(own)] = own.detach().clone()
            node.register_buffer(leaf, copies[id(own)])

    def tensors(self) -> dict[str, Tensor]:
        """Return the teacher's tensors by their key in the architecture."""
        return dict(self.named_buffers(remove_duplicate=False))

    @torch.no_grad()
    def copy_(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take the values out of the teacher's ``state_dict``, in place."""
        for name, tensor in self.tensors().items():
            tensor.copy_(state_dict[name])

    @torch.no_grad()
    def call(self, architecture: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Call ``architecture`` as the teacher: no graph, eval mode.

        Gates, modes, weights and statistics are afterwards as before.

        Args:
            architecture: The supernet.
            args: Arguments of its ``forward``; likewise ``kwargs``.

        Returns:
            What its ``forward`` returns.
        """
        with using_view(architecture, TEACHER), eval_mode(architecture):
            return call_with(architecture, self.tensors(), *args, **kwargs)


def call_with(
    architecture: nn.Module,
    tensors: Mapping[str, Tensor],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Call a network with other tensors in place of some of its own.

    Args:
        architecture: The network.
        tensors: What takes the place, by key of its state dict; in training
            mode, norms update those of statistics.
        args: Arguments of its ``forward``; likewise ``kwargs``.
    """
    places = _places(architecture, tensors)
    return functional_call(
        architecture, places, args, kwargs, tie_weights=False
    )


def _places(
    architecture: nn.Module, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Name every place of a tensor that is to be swapped, each once.

    Some detectors use one convolution under several names. ``tie_weights``
    of torch swaps it once for each name, and restores something else.

    Args:
        architecture: The supernet.
        tensors: What to put there, by a key of its state dict.
    """
    own = architecture.state_dict(keep_vars=True)
    values = {id(own[name]): value for name, value in tensors.items()}
    places = {}
    for prefix, module in architecture.named_modules():
        held = (
            *module.named_parameters(prefix, recurse=False),
            *module.named_buffers(prefix, recurse=False),
        )
        for name, tensor in held:
            if id(tensor) in values:
                places[name] = values[id(tensor)]
    return places


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode inside a ``with`` block.

    Unlike ``model.eval()`` followed by ``model.train()``, each module gets
    its own mode back.
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def changing_names(
    architecture: nn.Module,
    norms: Iterable[str],
    fresh: Iterable[str] | None,
) -> list[str]:
    """Return the keys of all tensors whose student value may differ.

    Args:
        architecture: The supernet, already frozen where it does not train.
        norms: Names of the norms whose statistics move.
        fresh: Keys which the student does not start from the teacher's
            values; ``None`` if that is so for all of them.
    """
    # The teacher computes no `lora`, so it has no values of one.
    student = {
        key: tensor
        for key, tensor in architecture.state_dict(keep_vars=True).items()
        if not is_branch_key(key) and not is_lora_key(key)
    }
    if fresh is None:
        return list(student)
    # A tensor may have several keys, and changes under all of them.
    changing = {id(p) for p in architecture.parameters() if p.requires_grad}
    changing |= {id(student[key]) for key in other_buffers(architecture)}
    changing |= {id(student[key]) for key in fresh}
    for norm in norms:
        buffers = architecture.get_submodule(norm).buffers()
        changing |= {id(buffer) for buffer in buffers}
    return [key for key in student if id(student[key]) in changing]


def other_buffers(architecture: nn.Module) -> list[str]:
    """Return the keys of the student's buffers that no batch norm holds.

    Nobody can tell which of them move in training: those of an instance norm
    that tracks statistics do, and a codebook; a position index does not.
    """
    saved = architecture.state_dict()
    return [
        key
        for prefix, module in architecture.named_modules()
        if not isinstance(module, _BatchNorm)
        for key, _ in module.named_buffers(prefix, recurse=False)
        if key in saved and not is_branch_key(key) and not is_lora_key(key)
    ]
