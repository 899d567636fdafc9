# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Roles: names for parts of the student that every host answers to.

A role comes from the structure of the network and from where its branches
are, so that the same policy fits ResNets of any depth and grafted hosts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import takewhile

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from .structure import (
    first_stage,
    in_shortcut,
    is_inside,
    prefix_of,
    trunk_of,
)
from .supernet import hosts, is_branch_key, is_lora_key

ROLES = {
    'stem': 'what precedes the stages in the backbone',
    'main_conv': 'the convolutions which carry a branch',
    'main_norm': 'the norm after a main convolution',
    'second_conv': 'the convolutions after it in its block',
    'second_norm': 'their norms',
    'shortcut': 'all of a `downsample` or `shortcut`',
    'norms': 'all norms but those of `lora`, whatever else they play',
    'classifier': 'all of `head`, or of each `*_head`',
    'lora': 'the branches which merge into main convolutions',
}
"""Role -> what plays it. Several roles may share a parameter."""

REGEX = 're:'
"""What a regular expression starts with where a role is expected."""

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def check_patterns(patterns: Iterable[str], config_key: str) -> None:
    """Raise unless each pattern is a role or a regular expression.

    Args:
        patterns: Keys of :data:`ROLES`, or ``'re:<regex>'``.
        config_key: Where they were configured, for the error.

    Raises:
        ValueError: If one is neither.
    """
    unknown = []
    for pattern in patterns:
        if not str(pattern).startswith(REGEX):
            unknown += [pattern] if pattern not in ROLES else []
            continue
        try:
            re.compile(pattern[len(REGEX) :])
        except re.error as error:
            raise ValueError(
                f'{config_key}: {pattern!r} is no regular expression: {error}.'
            ) from error
    if unknown:
        raise ValueError(
            f'{config_key} has unknown roles {unknown}; known are '
            f'{sorted(ROLES)}, and regular expressions on the names of '
            f"parameters such as '{REGEX}backbone\\.layer1\\..+'."
        )


def match_parameters(
    model: nn.Module, patterns: Iterable[str], config_key: str
) -> dict[str, set[str]]:
    """Return the names of the student's parameters by pattern.

    Args:
        model: The supernet, or any other network.
        patterns: Roles, or ``'re:<regex>'`` which is to match the full name
            of a parameter, such as ``backbone.layer1.0.conv1.weight``.
        config_key: Where they were configured, for the error.

    Returns:
        Pattern -> names, never of a parameter inside a branch; a shared
        parameter may be there under any of its names.

    Raises:
        ValueError: If a pattern is unknown or matches no parameter.
    """
    patterns = list(patterns)
    check_patterns(patterns, config_key)
    roles = parameters_by_role(model)
    every = model.named_parameters(remove_duplicate=False)
    names = [name for name, _ in every if not is_branch_key(name)]
    matched = {}
    for pattern in patterns:
        regex = pattern[len(REGEX) :]
        matched[pattern] = (
            {name for name in names if re.fullmatch(regex, name)}
            if pattern.startswith(REGEX)
            else roles[pattern]
        )
        if not matched[pattern]:
            meaning = ROLES.get(pattern, 'a full match is needed')
            raise ValueError(
                f'{config_key}: no parameter of {type(model).__name__} '
                f'matches {pattern!r} ({meaning}); its parameters are named '
                f'like {names[:3]}.'
            )
    return matched


def parameters_by_role(model: nn.Module) -> dict[str, set[str]]:
    """Return role -> names of the student's parameters which play it."""
    student = {n: m for n, m in model.named_modules() if not is_branch_key(n)}
    modules = {n: m for n, m in student.items() if not is_lora_key(n)}
    players: dict[str, list[str]] = {
        'stem': list(_stem(model, modules)),
        'shortcut': [name for name in modules if in_shortcut(name)],
        'norms': [n for n, m in modules.items() if isinstance(m, NORMS)],
        'classifier': [name for name in modules if is_head(name)],
        **_block_roles(model, modules),
        'lora': [name for name in student if is_lora_key(name)],
    }
    return {
        role: {
            prefix_of(name) + key
            for name in players[role]
            for key, _ in student[name].named_parameters(recurse=False)
        }
        for role in ROLES
    }


def is_head(name: str) -> bool:
    """Whether a parameter or module name is that of a head or inside one."""
    return re.match(r'(\w+_)?head(\.|$)', name) is not None


def _stem(model: nn.Module, modules: dict[str, nn.Module]) -> Iterator[str]:
    """Yield the names of the modules before the backbone's first stage."""
    trunk = trunk_of(model)
    backbone = modules[trunk]
    stage = first_stage(backbone)
    if stage is None:
        return  # nothing is before them
    children = (name for name, _ in backbone.named_children())
    early = takewhile(lambda name: name != stage, children)
    parents = [prefix_of(trunk) + name for name in early]
    yield from (name for name in modules if is_inside(name, parents))


def _block_roles(
    model: nn.Module, modules: dict[str, nn.Module]
) -> dict[str, list[str]]:
    """Return the roles of the hosts and of what follows in their blocks."""
    host_names = [name for name, _ in hosts(model)]
    found: dict[str, list[str]] = {
        'main_conv': [n for n in modules if is_inside(n, host_names)],
        'main_norm': [],
        'second_conv': [],
        'second_norm': [],
    }
    for host in host_names:
        block, _, own_name = host.rpartition('.')
        siblings = list(model.get_submodule(block).named_children())
        position = [name for name, _ in siblings].index(own_name)
        norm_role = 'main_norm'
        for name, module in siblings[position + 1 :]:
            full_name = prefix_of(block) + name
            if full_name in host_names:
                break
            if isinstance(module, nn.Conv2d):
                found['second_conv'].append(full_name)
                norm_role = 'second_norm'
            elif isinstance(module, NORMS):
                found[norm_role].append(full_name)
    return found
