# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Checkpoint keys of ``ohmydroid/reducenet``, in our names.

Reason: the published networks are worth comparing with, but their files
have names, gates and an unused branch of their own. Versions: the commits of
that repository of 2023-06-02 (``sequential``), from 06-03 to the morning of
06-04 (``parallel``) and from 06-14 on (``postsum``); the last change of the
network is 389dcb7. Others are refused: they have no counterpart here, or
the same keys stood for different functions. Source: that history.

Only names and tensors are handled, no network is built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .published_versions import (
    LORAS,
    REFUSED,
    STAGES,
    VERSIONS,
    Entries,
    Sizes,
    Version,
    all_entries,
)

StateDict = dict[str, Tensor]
_WRAPPERS = ('module.', '_orig_mod.')
_FIRST = 'layer1.0'


@dataclass(frozen=True)
class PublishedNetwork:
    """A published network, read from its tensors.

    Attributes:
        block: Name of our block with its function.
        depth: 6n+2.
        base_channels: Width of the first stage, 16 times the published one.
        expansion: Width of the branches.
        num_classes: Outputs of the classifier.
        scaler: Which network the file is: 1 the teacher, 0 the student.
        lora: Setting ``backbone.lora`` if the file's network computes that
            branch; otherwise None.
        unused_lora: Kind of a lora branch that the file has but its network
            does not compute; it is left out.
        state_dict: Weights by our names.
    """

    block: str
    depth: int
    base_channels: int
    expansion: int
    num_classes: int
    scaler: float
    lora: dict[str, Any] | None
    unused_lora: str | None
    state_dict: StateDict = field(repr=False)


def read_published(content: Any) -> PublishedNetwork:
    """Turn what a published file holds into our names and settings.

    The published network computes its lora branch if, and only if, the gate
    ``lora`` is 1; no published training ever set it. With gate 0 the branch
    is left out. With gate 1 and ``scaler`` 0 it becomes our ``lora``; our
    teacher is then the published network with ``scaler`` 1 and ``lora`` 0.

    Args:
        content: What ``torch.load`` returns for the file.

    Returns:
        The network; its tensors are those of ``content``.

    Raises:
        ValueError: If it is not exactly a published network, or one that
            has no single counterpart here; the text says why.
    """
    state = unwrap(content)
    version = _find_version(state)
    if version.block != 'postsum':
        state.pop('requires_grad', None)  # a flag, no weight
    sizes = _read_sizes(state, version)
    lora = _find_lora(state, version)
    entries = all_entries(version, lora, sizes)
    _check_entries(state, entries)
    scaler = _gate(state, 'scaler')
    lora_on = lora is not None and _gate(state, 'lora') == 1
    if lora_on and scaler == 1:
        raise ValueError(
            'its gates scaler and lora are both 1: the published teacher '
            'with lora beside its branch. Here lora is a part of the '
            'student only. Set the gate of the network that is meant to 0: '
            'lora for the teacher, scaler for the student'
        )
    return PublishedNetwork(
        block=version.block,
        depth=6 * sizes.blocks + 2,
        base_channels=sizes.width,
        expansion=sizes.expansion,
        num_classes=sizes.classes,
        scaler=scaler,
        lora=_lora_settings(lora, sizes) if lora and lora_on else None,
        unused_lora=None if lora_on else lora,
        state_dict=_rename(state, entries, lora_on),
    )


def unwrap(content: Any) -> StateDict:
    """Return the bare state dict, without what saving wrapped around it.

    Args:
        content: What the file of a published checkpoint holds.

    Raises:
        ValueError: If there is none.
    """
    if isinstance(content, Mapping) and isinstance(
        content.get('net'), Mapping
    ):
        content = content['net']  # beside 'acc' and 'epoch', until 2023-06-07
    if not isinstance(content, Mapping) or not content:
        raise ValueError('it holds no state dict')
    state = dict(content)
    foreign = [key for key, val in state.items() if not _is_tensor(key, val)]
    if foreign:
        raise ValueError(
            f'its entry {foreign[0]!r} is no tensor, so it is no bare state '
            'dict (already a checkpoint of MMEngine?)'
        )
    for prefix in _WRAPPERS:
        if all(key.startswith(prefix) for key in state):
            state = {key[len(prefix) :]: val for key, val in state.items()}
    return state


def _is_tensor(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


def _find_version(state: StateDict) -> Version:
    pattern = re.compile(rf'{re.escape(_FIRST)}\.(.+)\.\w+')
    matches = [pattern.fullmatch(key) for key in state]
    names = {match[1] for match in matches if match}
    names = {name for name in names if not name.startswith('lora_branch.')}
    for version in VERSIONS:
        if names == version.layers.keys():
            return version
    if frozenset(names) in REFUSED:
        raise ValueError(REFUSED[frozenset(names)])
    raise ValueError(
        f'its first block ({_FIRST}.*) has the layers {sorted(names)}, which '
        f'no published version has; its first key is {next(iter(state))!r}'
    )


def _read_sizes(state: StateDict, version: Version) -> Sizes:
    counts = []
    for stage in STAGES:
        found = (re.match(rf'{stage}\.(\d+)\.', key) for key in state)
        counts.append(len({match[1] for match in found if match}))
    if len(set(counts)) != 1:
        raise ValueError(
            f'{", ".join(STAGES)} have {counts} blocks; a network of depth '
            '6n+2 has n in each'
        )
    width = _first_size(state, f'{version.stem[0]}.weight')
    wide = _first_size(state, f'{_FIRST}.{version.wide}.weight')
    if wide % width:
        raise ValueError(
            f'{_FIRST}.{version.wide} has {wide} outputs, no multiple of the '
            f'{width} channels of the stem'
        )
    classes = _first_size(state, version.linear[1])
    return Sizes(counts[0], width, wide // width, classes)


def _first_size(state: StateDict, key: str) -> int:
    """Return the first dimension of a tensor that must be there."""
    if key not in state or not state[key].numel() or not state[key].ndim:
        raise ValueError(f'{key} is missing, empty or a single number')
    return len(state[key])


def _find_lora(state: StateDict, version: Version) -> str | None:
    prefix = f'{_FIRST}.lora_branch'
    weights = {
        key[len(_FIRST) + 1 : -len('.weight')]
        for key in state
        if key.startswith(prefix) and key.endswith('.weight')
    }
    if not weights and f'{_FIRST}.lora' not in state:
        return None
    gated = version.block == 'postsum' and 'lora' in state
    for kind, layers in LORAS.items():
        if gated and weights == layers.keys():
            return kind
    raise ValueError(
        f'its lora branch has {len(weights)} layers and '
        f'{"a" if "lora" in state else "no"} gate `lora`. Only versions with '
        'a gate and two or four layers ran, so what it computes cannot be '
        'told'
    )


def _lora_settings(kind: str, sizes: Sizes) -> dict[str, Any]:
    if kind == '1x1':
        return dict(kind=kind)
    return dict(
        kind=kind,
        expansion=sizes.expansion,
        inner_norm=True,
        outer_norm=True,
    )


def _check_entries(state: StateDict, entries: Entries) -> None:
    for key, (_, shape) in entries.items():
        if key not in state:
            raise ValueError(f'{key} is missing')
        if tuple(state[key].shape) != shape:
            raise ValueError(
                f'{key} has the shape {tuple(state[key].shape)}; with the '
                f'other tensors of the file it would have {shape}'
            )
    extra = [key for key in state if key not in entries]
    if extra:
        raise ValueError(
            f'{extra[0]} and {len(extra) - 1} more keys have no place in a '
            'network whose first block is this one'
        )


def _gate(state: StateDict, name: str) -> float:
    """Return the value of a gate, which all blocks share."""
    keys = [key for key in state if key.split('.')[-1] == name]
    values = {float(state[key]) for key in keys}
    if len(values) > 1:
        raise ValueError(
            f'its blocks disagree on the gate `{name}`: {sorted(values)}'
        )
    value = values.pop()
    if value not in (0, 1):
        raise ValueError(
            f'its gate `{name}` is {value}; the published training has only '
            '1 and 0, and takes all else for 0 in some versions'
        )
    return value


def _rename(state: StateDict, entries: Entries, lora_on: bool) -> StateDict:
    renamed = {
        ours: state[theirs]
        for theirs, (ours, _) in entries.items()
        if ours and (lora_on or '.lora_branch.' not in theirs)
    }
    if 'linear.w' in entries:  # multiplied from the right
        renamed['head.fc.weight'] = state['linear.w'].t().contiguous()
    return renamed
