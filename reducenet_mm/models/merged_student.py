# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The student of one stage as the start of the next: what merges, merged."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Set

import torch
from torch import Tensor, nn

from .checkpoint_views import StateDict, strip_prefix
from .deploy import conv_norm_pairs
from .layers import LambdaReLU, ReduceConv2d, SequentialConv2d
from .layers.linear_pair import folded
from .layers.lora import LoraBranch, build_lora, settings_of
from .layers.merge import absorb_bias, add_parallel
from .structure import prefix_of
from .supernet import hosts, ungraft

Conv = tuple[Tensor, Tensor | None]

_NO_PLACE = (
    '`{conv}.lora` has a norm, so merging it gives `{conv}` a bias, and no '
    'norm with running statistics follows it in a block of a ResNet, to take '
    'that over. Keep the branch in this stage: give it the same `lora`.'
)


@torch.no_grad()
def merge_student(
    architecture: nn.Module, student: Mapping[str, Tensor]
) -> StateDict:
    """Merge what a student has and the student of this stage has not.

    That is a ``lora`` branch, unless the host at its place has the very same
    one and no activation in it, and the linear pair of a ``sequential``
    block where this stage has one convolution. The function in eval mode
    stays the same up to the rounding of weights. Kinds and widths are read
    from keys and shapes; a norm's ``eps`` is that of the host's ``expand``.
    Anything else, such as what does not fit the host, is left for strict
    loading to refuse.

    Args:
        architecture: The supernet of this stage; only read.
        student: State dict of another stage's student, branches ``expand``
            left out.

    Returns:
        A new dict which shares the tensors that do not change.

    Raises:
        ValueError: If merging leaves a bias, and neither the host nor a norm
            with running statistics after it can take it.
    """
    merged = dict(student)
    norms = dict(conv_norm_pairs(architecture))
    with torch.random.fork_rng(devices=[]):  # building layers draws numbers
        for name, host in hosts(architecture):
            prefix = prefix_of(name)
            if isinstance(host, ReduceConv2d):
                _merge_lora(host, merged, prefix, norms.get(name))
            elif isinstance(host, SequentialConv2d):
                _merge_pair(host, merged, prefix)
    return merged


def check_biases(extra: Set[str]) -> None:
    """Raise if merging has left biases where the host has none.

    Args:
        extra: Keys of a merged student that its plain network has not.

    Raises:
        ValueError: If there are biases among them.
    """
    biases = sorted(key for key in extra if key.endswith('.bias'))
    if biases:
        raise ValueError(
            f'`{biases[0]}` comes from a norm inside a `lora` branch, and '
            'the plain network has no such bias, nor is the norm after it '
            'known. Train with a lora that has no norm: '
            "backbone.lora=dict(kind='weight'), or kind='kxk_1x1' without "
            'inner_norm and outer_norm.'
        )


def check_has_place(architecture: nn.Module) -> None:
    """Raise if a ``lora`` could not merge once it is trained.

    Args:
        architecture: The supernet; only read.

    Raises:
        ValueError: If a norm inside one would leave a bias that neither the
            convolution nor a norm after it can take.
    """
    convs = [
        name
        for name, host in hosts(architecture)
        if getattr(host, 'lora', None) is not None
    ]
    if not convs:
        return
    merged = ungraft(copy.deepcopy(architecture)).state_dict()
    new = {f'{name}.bias' for name in convs} - architecture.state_dict().keys()
    if new & merged.keys():
        check_biases(new & absorb_biases(merged, architecture).keys())


def absorb_biases(
    student: Mapping[str, Tensor], plain: nn.Module
) -> StateDict:
    """Let the norms of a plain network take over what merging has left.

    Args:
        student: State dict of an ungrafted student, perhaps with biases of
            convolutions that have none in ``plain``.
        plain: The network that is to load it, or the supernet; only read.

    Returns:
        A new dict of the same function in eval mode, without the biases of
        convolutions that a norm is known to follow.

    Raises:
        ValueError: If that norm has no running statistics.
    """
    own, absorbed = plain.state_dict().keys(), dict(student)
    for conv, norm in conv_norm_pairs(plain):
        key, mean = f'{conv}.bias', f'{norm}.running_mean'
        if key in own or key not in student:
            continue
        if mean not in student:
            raise ValueError(
                f'`{key}` comes from a norm that was merged, and there is '
                f'no `{mean}` to absorb it: with norms that have no running '
                'statistics (backbone.norm_cfg), leave norms out of what '
                'merges (inner_norm, and inner_norm and outer_norm of lora).'
            )
        absorbed[mean] = absorb_bias(absorbed.pop(key), absorbed[mean])
    return absorbed


def _merge_lora(
    host: ReduceConv2d, state: StateDict, prefix: str, norm: str | None
) -> None:
    branch = f'{prefix}lora.'
    values = strip_prefix(state, branch)
    if not values or _goes_on(host.lora, values):
        return
    lora = _rebuild(host, values)
    weight = state.get(f'{prefix}weight')
    if lora is None or weight is None or weight.shape != host.weight.shape:
        return
    conv = add_parallel(
        *folded(weight, state.get(f'{prefix}bias')),
        *lora.merged(),
        padding=host.padding,
        dilation=host.dilation,
    )
    _put_conv(host, state, prefix, conv, norm)
    for key in values:
        del state[branch + key]


def _goes_on(lora: LoraBranch | None, values: Mapping[str, Tensor]) -> bool:
    """Whether the host's branch can go on from these values.

    Not with an activation, which a schedule turns on again at first.
    """
    if lora is None or not _fits(lora, values):
        return False
    return not any(isinstance(m, LambdaReLU) for m in lora.modules())


def _merge_pair(host: SequentialConv2d, state: StateDict, prefix: str) -> None:
    branch = f'{prefix}pair.'
    values = strip_prefix(state, branch)
    if values and _fits(host.expand, values):
        pair = copy.deepcopy(host.expand)
        pair.load_state_dict(values)
        _put_conv(host, state, prefix, pair.merged(), None)
        for key in values:
            del state[branch + key]
    weight, bias = f'{prefix}weight', f'{prefix}bias'
    if host.bias is not None and weight in state and bias not in state:
        state[bias] = torch.zeros_like(host.bias)  # an exported student


def _rebuild(
    host: ReduceConv2d, values: Mapping[str, Tensor]
) -> LoraBranch | None:
    """Return the branch with these values, or None if none has them."""
    settings = settings_of(values, host.out_channels)
    if settings is None:
        return None
    try:
        norm_cfg = dict(type='BN', eps=host.expand.norm1.eps)
        lora = build_lora(host, settings, norm_cfg).to(host.weight.dtype)
    except ValueError:  # the kernel is off centre, groups do not divide it
        return None
    if not _fits(lora, values):
        return None
    lora.load_state_dict(values)
    return lora


def _fits(module: nn.Module, values: Mapping[str, Tensor]) -> bool:
    shapes = {key: value.shape for key, value in module.state_dict().items()}
    return shapes == {key: value.shape for key, value in values.items()}


def _put_conv(
    host: nn.Conv2d,
    state: StateDict,
    prefix: str,
    conv: Conv,
    norm: str | None,
) -> None:
    """Write a merged convolution, its bias maybe into the norm after it.

    All or nothing: ``state`` is unchanged if that fails.
    """
    weight, bias = conv
    changed = {f'{prefix}weight': weight.to(host.weight.dtype)}
    if bias is not None and host.bias is not None:
        changed[f'{prefix}bias'] = bias.to(host.bias.dtype)
    elif bias is not None:
        mean = f'{norm}.running_mean'
        if norm is None or mean not in state:
            raise ValueError(_NO_PLACE.format(conv=prefix.rstrip('.')))
        shifted = absorb_bias(bias, state[mean].double())
        changed[mean] = shifted.to(state[mean].dtype)
    state.update(changed)
