# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Find keys that no constructor takes, inside ``model`` and beside it."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.registry import (
    MODELS,
    TASK_UTILS,
    WEIGHT_INITIALIZERS,
    Registry,
)
from mmpretrain.registry import BATCH_AUGMENTS
from torch import nn

from reducenet_mm.models.architecture import add_scope
from reducenet_mm.spelling import did_you_mean

_RESERVED = frozenset({'type', '_scope_', '_delete_'})

_TAKEN_BY_BUILDERS = {
    'norm_cfg': {'requires_grad'},
    'init_cfg': {'override'},
    'override': {'name'},
    'vision_encoder': {'pretrained'},
    'dcn': {'deformable_groups', 'fallback_on_stride'},
    'loss_cls': {'bg_cls_weight'},
    'upsample_cfg': {'scale_factor'},
}
"""Last part of a key -> keys that are used before the constructor's call."""


@dataclass(frozen=True)
class Node:
    """A dict with ``type``, inside ``model`` or beside it.

    Attributes:
        key: Where it stands, for example ``model.backbone``.
        cfg: The dict itself.
        scope: The registry scope in force there.
        target: What ``type`` is registered as, ``None`` if nothing is found.
    """

    key: str
    cfg: Mapping[str, Any]
    scope: str
    target: Callable | None


def walk_model(cfg: Config) -> list[Node]:
    """List the nodes of ``cfg.model``, each before the ones inside it.

    Raises:
        TypeError: If ``cfg.model`` is not a dict.
    """
    if not isinstance(cfg.get('model'), Mapping):
        raise TypeError(
            f'model must be a dict with `type`, got {cfg.get("model")!r}.'
        )
    return list(_walk(cfg.model, 'model', cfg.get('default_scope')))


def _walk(value: Any, key: str, scope: str | None) -> Iterator[Node]:
    if isinstance(value, Mapping):
        if key == 'model.architecture':
            value = add_scope(value, scope)
        scope = value.get('_scope_', scope)
        if 'type' in value:
            target = resolve(value['type'], scope, _registries(key))
            yield Node(key, value, scope or 'mmengine', target)
        for name, child in value.items():
            yield from _walk(child, f'{key}.{name}', scope)
    elif isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            yield from _walk(child, f'{key}.{index}', scope)


def _registries(key: str) -> tuple[Registry, ...]:
    if 'init_cfg' in key.split('.'):
        return (WEIGHT_INITIALIZERS,)
    return MODELS, TASK_UTILS, BATCH_AUGMENTS


def resolve(
    name: Any, scope: str | None, registries: Sequence[Registry]
) -> Callable | None:
    """Return what ``type=name`` means in ``scope``.

    Args:
        name: A registered name, with or without a scope, or a callable;
            anything else means nothing.
        scope: The scope to search in, ``None`` for the current one.
        registries: Root registries, the first that knows the name wins.
    """
    if not isinstance(name, str):
        return name if callable(name) else None
    for root in registries:
        with root.switch_scope_and_registry(scope) as registry:
            try:  # which imports what has dots in its name
                target = registry.get(name)
            except (RuntimeError, TypeError):
                continue
        if callable(target):  # and is no module
            return target
    return None


def no_such_type(
    key: str, cfg: Mapping[str, Any], scope: str | None, root: Registry
) -> str:
    """Say that the ``type`` of a dict is missing or means nothing.

    Args:
        key: Where the dict stands.
        cfg: The dict.
        scope: The scope that was searched, ``None`` for the current one.
        root: The root registry that was searched.
    """
    if cfg.get('type') is None:
        return f'{key}={dict(cfg)} has no `type`. Set {key}.type.'
    return unknown_type(f'{key}.type', cfg['type'], scope, root)


def unknown_type(
    key: str, name: Any, scope: str | None, root: Registry
) -> str:
    """Say that ``key=name`` means nothing, and what may be meant.

    Args:
        key: Where the name stands, mostly a ``type``.
        name: The name.
        scope: The scope that was searched, ``None`` for the current one.
        root: The root registry that was searched.
    """
    package, dot, _ = str(name).partition('.')
    dotted = isinstance(name, str) and dot and package.isidentifier()
    if dotted and importlib.util.find_spec(package) is None:
        return f'{key}={name!r}: {package!r} is not installed.'
    with root.switch_scope_and_registry(scope) as registry:
        known = {*registry.module_dict, *root.module_dict}
    hint = did_you_mean(str(name), known)
    return (
        f'{key}={name!r} is no registered {root.name}, in scope '
        f'{scope!r}. {hint}If it is your own class, import its module with '
        "custom_imports; if another toolbox's, say which by `_scope_`. Some "
        'need another package, which may be missing.'
    )


def registered_name(
    target: Any, scope: str | None, registries: Sequence[Registry]
) -> str | None:
    """Return the ``type`` that means ``target`` in ``scope``.

    Args:
        target: A class or function, as MMEngine's new-style configs have it.
        scope: The scope to search in, ``None`` for the current one.
        registries: Root registries, the first that has it wins.

    Returns:
        Its first name, or ``None`` if it is registered in none of them.
    """
    for root in registries:
        with root.switch_scope_and_registry(scope) as registry:
            known = {**root.module_dict, **registry.module_dict}
        for name, registered in known.items():
            if registered is target:
                return name
    return None


def check_model_keys(nodes: Sequence[Node]) -> None:
    """Raise ``ValueError`` at the first key that its constructor refuses.

    Nodes of an unknown type and constructors that take any keyword are
    passed over: building the model tells.
    """
    for node in nodes:
        known = None if node.target is None else accepted_keys(node.target)
        if known is not None:
            check_keys(node, known)


def check_keys(node: Node, known: set[str]) -> None:
    """Raise ``ValueError`` at the first key of a node that is not known."""
    extra = _TAKEN_BY_BUILDERS.get(node.key.rpartition('.')[2], set())
    for name, value in node.cfg.items():
        if name not in known | extra | _RESERVED:
            raise ValueError(_unknown_key(node, name, value, known))


def _unknown_key(node: Node, name: str, value: Any, known: set[str]) -> str:
    hint = did_you_mean(name, known)
    replaced = getattr(node.target, 'replaced', {}).get(name)
    if replaced is not None:
        hint = f'Instead, {replaced}. '
    kind = node.cfg.get('type', getattr(node.target, '__name__', 'It'))
    return (
        f'unknown key {node.key}.{name}={value!r}. {hint}'
        f'{kind} takes: {", ".join(sorted(known))}.'
    )


def accepted_keys(
    target: Callable, closed: type | None = None
) -> set[str] | None:
    """Return the keywords that a class or function takes.

    A constructor that only hands its ``**kwargs`` on to ``super()`` takes
    those of its base class too.

    Args:
        target: The class or function.
        closed: A class whose own ``**kwargs`` do not count.

    Returns:
        The names, or ``None`` if any keyword is taken.
    """
    if not inspect.isclass(target):
        names, open_ended = _keywords(target)
        return None if open_ended else names
    accepted: set[str] = set()
    for cls in target.__mro__:
        if '__init__' not in vars(cls):
            continue
        if cls in (nn.Module, object):
            return accepted
        init = vars(cls)['__init__']
        names, open_ended = _keywords(init)
        accepted |= names - {'self'}
        if not open_ended or cls is closed:
            return accepted
        if not _hands_on_kwargs(init, cls.__name__):
            return None
    return accepted


def _keywords(function: Callable) -> tuple[set[str], bool]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # written in C, without a signature
        return set(), True
    by_name = (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )
    names = {p.name for p in parameters if p.kind in by_name}
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _hands_on_kwargs(init: Callable, owner: str) -> bool:
    """Whether ``**kwargs`` is used for ``super().__init__`` and no more.

    Args:
        init: The constructor.
        owner: Name of its class; ``super`` of another one leaves its bases
            out.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError, SyntaxError):
        return False
    kwarg = next(
        arguments.kwarg.arg
        for arguments in ast.walk(tree)
        if isinstance(arguments, ast.arguments) and arguments.kwarg
    )
    nodes = list(ast.walk(tree))
    uses = [n for n in nodes if isinstance(n, ast.Name) and n.id == kwarg]
    handed_on = [
        keyword.value
        for call in nodes
        if isinstance(call, ast.Call) and _is_super_init(call.func, owner)
        for keyword in call.keywords
        if keyword.arg is None
    ]
    return bool(uses) and all(
        any(use is value for value in handed_on) for use in uses
    )


def _is_super_init(function: ast.expr, owner: str) -> bool:
    if not isinstance(function, ast.Attribute) or function.attr != '__init__':
        return False
    return ast.unparse(function.value) in ('super()', f'super({owner}, self)')
