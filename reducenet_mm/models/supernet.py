# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Views of a supernet: the only writer of its gates; graft and ungraft."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .layers import ExpandBranch, ReduceConv2d

BRANCHES = ('expand',)
"""Names of the children which a host convolution may carry."""

ModuleT = TypeVar('ModuleT', bound=nn.Module)


def check_scaler(value: float) -> float:
    """Return ``value`` as a float, or raise if it is no gate's value.

    Raises:
        ValueError: If ``value`` is not a plain number in [0, 1].
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise ValueError(
            f'scaler must be a plain number in [0, 1], got {value!r}. Set '
            '`scaler` in the backbone config (or pass it to set_scaler): '
            '1 is the teacher, 0 the student.'
        )
    return float(value)


@dataclass(frozen=True)
class View:
    """A full setting of all gates.

    Attributes:
        expand: Weight of every ``expand`` branch, in [0, 1]. 0 means that
            the branches are not computed.
    """

    expand: float

    def __post_init__(self) -> None:
        check_scaler(self.expand)


TEACHER = View(expand=1.0)
STUDENT = View(expand=0.0)


def hosts(model: nn.Module) -> Iterator[tuple[str, ReduceConv2d]]:
    """Yield the name and module of every convolution with a branch."""
    for name, module in model.named_modules():
        if isinstance(module, ReduceConv2d):
            yield name, module


def is_branch_key(name: str) -> bool:
    """Whether a parameter, buffer or module name lies inside a branch."""
    return any(branch in name.split('.') for branch in BRANCHES)


def student_norms(model: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    """Yield the batch norms with statistics that the student executes."""
    for name, module in model.named_modules():
        if (
            isinstance(module, _BatchNorm)
            and module.track_running_stats
            and not is_branch_key(name)
        ):
            yield name, module


def apply_view(model: nn.Module, view: View) -> None:
    """Set all gates of ``model``.

    Raises:
        RuntimeError: If a branch should be switched on beside a convolution
            into which a norm has been folded; no gate is changed then.
    """
    layers = list(hosts(model))
    for name, layer in layers:
        if layer.refitted and view.expand != 0:
            raise RuntimeError(
                f'cannot switch on the branch of `{name}` '
                f'(scaler={view.expand}): its weight was replaced while the '
                'branch was off (a norm folded into it?), so only the '
                'student is left. Load the checkpoint into a new model.'
            )
    for _, layer in layers:
        layer.scaler = view.expand


def set_scaler(model: nn.Module, value: float) -> None:
    """Switch ``model`` to the teacher (1), the student (0) or between.

    Args:
        model: Any module with ReduceNet branches somewhere inside.
        value: The gate's value, in [0, 1].

    Raises:
        ValueError: If ``value`` is outside [0, 1] or ``model`` has no branch.
    """
    view = View(expand=check_scaler(value))
    if next(hosts(model), None) is None:
        raise ValueError(
            f'{type(model).__name__} has no ReduceNet branch to switch '
            f'(scaler={value}). Build a ReduceNet backbone or graft the '
            'model first; an exported student has only one network.'
        )
    apply_view(model, view)


@contextmanager
def using_view(model: nn.Module, view: View) -> Iterator[None]:
    """Apply ``view`` inside a ``with`` block; then restore every gate."""
    before = [(layer, layer.scaler) for _, layer in hosts(model)]
    apply_view(model, view)
    try:
        yield
    finally:
        for layer, scaler in before:
            layer.scaler = scaler


def graft(
    model: ModuleT,
    targets: str | Sequence[str] | Callable[[str, nn.Conv2d], bool],
    expansion: int = 1,
    norm_cfg: Mapping[str, Any] | None = None,
    act_cfg: Mapping[str, Any] | None = None,
    zero_init: bool = True,
) -> ModuleT:
    """Give convolutions of ``model`` an ``expand`` branch, in place.

    With ``zero_init`` the network's outputs do not change, bit for bit.

    Args:
        model: The host network. No key of it is renamed.
        targets: Which convolutions: one or more regular expressions, each
            to match a full module name, or a predicate of name and module.
        expansion: Width of the branches; see ``ExpandBranch``, likewise
            ``norm_cfg``, ``act_cfg``, ``zero_init``.

    Returns:
        The same ``model``.

    Raises:
        ValueError: If a pattern matches no ``nn.Conv2d``, or a matching
            convolution is of a kind that cannot be grafted. The model is
            unchanged then.
    """
    chosen = _select_convs(model, targets)
    branched = {
        name: ReduceConv2d.from_conv(
            conv, expansion, norm_cfg, act_cfg, zero_init
        )
        for name, conv in chosen.items()
    }
    for name, layer in branched.items():
        _replace_module(model, name, layer)
    return model


def ungraft(model: ModuleT) -> ModuleT:
    """Drop all branches in place: what is left is the student alone.

    Returns:
        The same ``model``, its grafted layers plain ``nn.Conv2d`` again.
    """
    for name, layer in list(hosts(model)):
        _replace_module(model, name, layer.student_conv())
    return model


def reset_branches(model: nn.Module) -> None:
    """Restore the start of every branch's output scale.

    A host's ``init_cfg`` sets all norm scales to 1; call this after it.
    """
    for _, layer in hosts(model):
        layer.expand.reset_output_scale()


def _select_convs(
    model: nn.Module,
    targets: str | Sequence[str] | Callable[[str, nn.Conv2d], bool],
) -> dict[str, nn.Conv2d]:
    convs = {
        name: module
        for name, module in model.named_modules()
        if name and isinstance(module, nn.Conv2d) and not is_branch_key(name)
    }
    if callable(targets):
        chosen = {n: c for n, c in convs.items() if targets(n, c)}
        unmatched = [] if chosen else [repr(targets)]
    else:
        patterns = [targets] if isinstance(targets, str) else list(targets)
        chosen = {
            name: conv
            for name, conv in convs.items()
            if any(re.fullmatch(p, name) for p in patterns)
        }
        unmatched = [
            p for p in patterns if not any(re.fullmatch(p, n) for n in chosen)
        ]
    if unmatched:
        raise ValueError(
            f'targets {unmatched} match no convolution of '
            f'{type(model).__name__}; its convolutions are named like '
            f'{list(convs)[:5]}.'
        )
    for name, module in model.named_modules():
        reserved = name.rpartition('.')[2] in BRANCHES
        if reserved and not isinstance(module, ExpandBranch):
            raise ValueError(
                f'cannot graft {type(model).__name__}: its own module '
                f'`{name}` has the name of a branch. Rename it in the host.'
            )
    for name, conv in chosen.items():
        if type(conv) is not nn.Conv2d:
            raise ValueError(
                f'cannot graft `{name}`: a {type(conv).__name__} is not a '
                'plain nn.Conv2d. Leave it out of `targets`.'
            )
    return chosen


def _replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition('.')
    setattr(model.get_submodule(parent), child, module)
