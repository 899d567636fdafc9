# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Views of a supernet: the only writer of its gates; graft and ungraft."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .graft_targets import Targets
from .graftable import GRAFTS
from .layers import Gated, Host, Replaceable
from .layers.expand_branch import Kernel
from .layers.host import EXPAND, LORA, hosts
from .layers.loading import unwatch_loading, watch_loading
from .layers.views import STUDENT, TEACHER, View, check_scaler
from .replace import replace_convs, replace_module
from .structure import prefix_of

__all__ = [
    'STUDENT',
    'TEACHER',
    'View',
    'adapt_state_dict',
    'apply_view',
    'check_scaler',
    'graft',
    'hosts',
    'is_branch_key',
    'is_lora_key',
    'replace_convs',
    'reset_branches',
    'set_gates',
    'set_scaler',
    'student_gates',
    'student_modules',
    'student_norms',
    'ungraft',
    'using_view',
]

ModuleT = TypeVar('ModuleT', bound=nn.Module)


def is_branch_key(name: str) -> bool:
    """Whether a parameter, buffer or module name lies inside ``expand``.

    That is the teacher's alone: no student computes or trains it.
    """
    return EXPAND in name.split('.')


def is_lora_key(name: str) -> bool:
    """Whether a parameter, buffer or module name lies inside ``lora``."""
    return LORA in name.split('.')


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
    for name, host in hosts(model):
        if view.expand != 0 or _has_lora(host, view):
            _check_whole(name, host, view.expand)
    for gated in _gates(model):
        gated.scaler = float(getattr(view, gated.gate))


def set_scaler(model: nn.Module, value: float) -> None:
    """Switch ``model`` to the teacher (1), the student (0) or between.

    Args:
        model: Any module with ReduceNet branches somewhere inside.
        value: The value of all gates, in [0, 1]; ``lora`` branches are on
            below 1.

    Raises:
        ValueError: If ``value`` is outside [0, 1], ``model`` has no branch,
            or a module of it objects: by its ``check_switchable``, as
            algorithms have it.
    """
    view = View.of_scaler(value)
    for module in model.modules():
        check = getattr(module, 'check_switchable', None)
        if callable(check):
            check(value)
    if next(hosts(model), None) is None:
        raise ValueError(
            f'{type(model).__name__} has no ReduceNet branch to switch '
            f'(scaler={value}). Build a ReduceNet backbone or graft the '
            'model first; an exported student has only one network.'
        )
    apply_view(model, view)


def student_gates(model: nn.Module, gate: str) -> dict[str, Gated]:
    """Return by name the gates of one kind on the student's way.

    A gate inside ``expand`` is not among them: it is part of what the
    teacher computes.

    Args:
        model: Any module.
        gate: A field of :class:`View`.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Gated)
        and module.gate == gate
        and not is_branch_key(name)
    }


def set_gates(gates: Mapping[str, Gated], value: float) -> None:
    """Set some of a model's gates, as :func:`student_gates` returns them.

    Raises:
        ValueError: If ``value`` is not a plain number in [0, 1].
        RuntimeError: As :func:`apply_view`; no gate is changed then.
    """
    value = check_scaler(value)
    for name, gated in gates.items():
        if isinstance(gated, Host) and value != 0:
            _check_whole(name, gated, value)
    for gated in gates.values():
        gated.scaler = value


@contextmanager
def using_view(model: nn.Module, view: View) -> Iterator[None]:
    """Apply ``view`` inside a ``with`` block; then restore every gate."""
    before = [(gated, gated.scaler) for gated in _gates(model)]
    apply_view(model, view)
    try:
        yield
    finally:
        for gated, scaler in before:
            gated.scaler = scaler


def graft(
    model: ModuleT,
    targets: Targets,
    expansion: int = 1,
    norm_cfg: Mapping[str, Any] | None = None,
    act_cfg: Mapping[str, Any] | None = None,
    zero_init: bool = True,
    lora: Mapping[str, Any] | None = None,
    kernel: Kernel | None = None,
) -> ModuleT:
    """Give convolutions of ``model`` an ``expand`` branch, in place.

    With ``zero_init`` the network's outputs do not change, bit for bit. That
    is still so after ``init_weights`` of MMEngine and after loading a stock
    checkpoint; after an initialisation of any other kind call
    :func:`reset_branches`.

    Branches train, also beside frozen convolutions, until the backbone freezes
    its stages again, as MMPretrain's do in ``train``. Until it is ungrafted, a
    checkpoint with nothing for the network is an error.

    Args:
        model: The host network. No key of it is renamed.
        targets: Which convolutions: one or more roles such as
            ``'block_first_conv'`` (see ``graft_targets.TARGET_ROLES``) or
            regular expressions, each to match a full module name, or a
            predicate of name and module.
        expansion: Width of the branches; see ``ExpandBranch``, likewise
            ``norm_cfg``, ``act_cfg``, ``zero_init``, ``kernel``.
        lora: Settings of a ``lora`` branch beside it, with a ``kind``; see
            ``build_lora``. None for no such branch. It has the host's
            groups.

    Returns:
        The same ``model``.

    Raises:
        ValueError: If a pattern matches no convolution, or a matching one
            cannot be grafted; it is named. The model is unchanged then.
    """
    replace_convs(
        model,
        targets,
        lambda conv: GRAFTS[type(conv)].from_conv(
            conv,
            expansion,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            zero_init=zero_init,
            lora=lora,
            kernel=kernel,
        ),
    )
    watch_loading(model)
    return model


def ungraft(model: ModuleT) -> ModuleT:
    """Drop or merge all branches in place: the student alone is left.

    The student is that of :data:`STUDENT`, whatever the gates say. Where
    something merges, a convolution may get a bias that it did not have.

    Args:
        model: A network around its branches, not a single host.

    Returns:
        The same ``model``, all of its layers plain again.

    Raises:
        ValueError: If ``model`` is itself a layer to be replaced.
    """
    if isinstance(model, Replaceable):
        raise ValueError(
            f'a {type(model).__name__} cannot be replaced in place: use '
            'what its student() returns.'
        )
    for name, module in student_modules(model).items():
        replace_module(model, name, module)
    unwatch_loading(model)
    return model


def student_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return by name what stands inside the student of ``model``.

    Args:
        model: A network around its branches; it is not changed.

    Returns:
        Name -> plain module, only where something is to be replaced. They
        are put in place in this order: what replaces an outer module keeps
        its children.
    """
    return {
        name: module.student()
        for name, module in model.named_modules()
        if name and isinstance(module, Replaceable)
    }


def reset_branches(model: nn.Module) -> None:
    """Restore the start of every branch.

    That of its output scale, and of a new convolution that begins merged.
    For networks which are initialised in another way than by MMEngine's
    ``init_weights``.
    """
    for _, host in hosts(model):
        host.reset_branches()


def adapt_state_dict(
    model: nn.Module, state_dict: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Complete a teacher's state dict by what ``model`` introduces.

    That is the present values of ``lora`` branches, and the new convolution
    of a sequential block, whose pair becomes its branch. Anything else is
    left for strict loading to refuse.

    Args:
        model: The supernet of this stage; it is not changed.
        state_dict: That of a supernet without what is new here.

    Returns:
        A new dict which shares the tensors.
    """
    adapted = dict(state_dict)
    for name, host in hosts(model):
        host.adapt_state(adapted, prefix_of(name))
    return adapted


def _gates(model: nn.Module) -> list[Gated]:
    return [m for m in model.modules() if isinstance(m, Gated)]


def _has_lora(host: Host, view: View) -> bool:
    return view.lora and getattr(host, LORA, None) is not None


def _check_whole(name: str, host: Host, scaler: float) -> None:
    """Raise if only the student is left of ``host``."""
    if host.refitted:
        raise RuntimeError(
            f'cannot switch on a branch of `{name}` (scaler={scaler}): only '
            'the student is left of it, since it was switched to deploy, or '
            'a norm was folded into it while the branch was off. Load the '
            "training's checkpoint into a new model."
        )
