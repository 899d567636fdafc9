# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which layers a branch can stand beside, and why others cannot be grafted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmcv.cnn.bricks.wrappers import Conv2d
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from .layers.adaptive_conv import AdaptiveReduceConv2d
from .layers.reduce_conv import ReduceConv2d

GRAFTS: Mapping[type[nn.Conv2d], type[ReduceConv2d]] = {
    nn.Conv2d: ReduceConv2d,
    Conv2d: ReduceConv2d,  # mmcv's, of conv_cfg=dict(type='Conv')
    Conv2dAdaptivePadding: AdaptiveReduceConv2d,
}
"""Class of a convolution, no subclass of it -> what takes its place."""

_HOOKS = (
    '_forward_hooks',
    '_forward_pre_hooks',
    '_backward_hooks',
    '_backward_pre_hooks',
)


def is_other_conv(module: nn.Module) -> bool:
    """Whether a module convolves without being an ``nn.Conv2d``.

    That is so for torch's other convolutions, and for layers with a weight
    of three dimensions or more such as MMCV's deformable convolutions.
    """
    if isinstance(module, nn.Conv2d):
        return False
    weight = module._parameters.get('weight')
    return isinstance(module, _ConvNd) or (
        weight is not None and not is_lazy(weight) and weight.ndim > 2
    )


def check_graftable(model: nn.Module, names: Iterable[str]) -> None:
    """Raise unless branches can be put beside all of these layers.

    Args:
        model: The network.
        names: Of convolutions in it.

    Raises:
        ValueError: If not; with the reason and the layers it holds for.
    """
    places = _places(model)
    unfit: dict[str, list[str]] = {}
    for name in names:
        module = model.get_submodule(name)
        parent = model.get_submodule(name.rpartition('.')[0])
        reason = (
            _reason_against(module)
            or _folding(parent)
            or _switching(model, name)
            or _sharing(name, module, places)
        )
        if reason is not None:
            unfit.setdefault(reason, []).append(name)
    for reason, layers in unfit.items():
        more = f' and {len(layers) - 3} more' if len(layers) > 3 else ''
        raise ValueError(
            f'cannot graft `{"`, `".join(layers[:3])}`{more}: {reason}. Leave '
            f'{"it" if len(layers) == 1 else "them"} out of `targets`.'
        )


def _reason_against(module: nn.Module) -> str | None:
    kind = type(module).__name__
    if any(map(is_lazy, module.parameters(recurse=False))):
        return (
            f'a {kind} has no shape before its first batch. Run one through '
            'the model first'
        )
    if is_parametrized(module):
        return (
            'its tensors are computed from others (a parametrization such '
            'as weight or spectral norm). Remove that first'
        )
    if type(module) not in GRAFTS:
        return f'a {kind} is not a plain nn.Conv2d'
    own = {*module._parameters, *module._buffers, *module._modules}
    if own != {'weight', 'bias'}:
        return (
            f'it has {sorted(own ^ {"weight", "bias"})} where a plain '
            'nn.Conv2d has only weight and bias (spectral norm, pruning?). '
            'Remove that first'
        )
    if any(getattr(module, hooks) for hooks in _HOOKS):
        return (
            'it has hooks, which a graft would lose. Register them after '
            'grafting'
        )
    return None


def _folding(parent: nn.Module) -> str | None:
    """Return the reason if an MMCV ``ConvModule`` folds norms by itself."""
    if getattr(parent, 'efficient_conv_bn_eval_forward', None) is None:
        return None
    return (
        'with efficient_conv_bn_eval the norm is folded into it in eval '
        'mode, which would leave the branch out. Turn that off'
    )


def _switching(model: nn.Module, name: str) -> str | None:
    """Return the reason if a module around a layer reads its weight itself.

    MMPretrain's ``switch_to_deploy`` (RepVGG, MobileOne) does.
    """
    parts = name.split('.')[:-1]
    around = ['.'.join(parts[:end]) for end in range(len(parts) + 1)]
    for outer in map(model.get_submodule, around):
        aware = getattr(outer, 'merges_branches', False)
        if hasattr(outer, 'switch_to_deploy') and not aware:
            return (
                f'the {type(outer).__name__} around it has a '
                'switch_to_deploy() of its own, which would leave the branch '
                'out'
            )
    return None


def _places(model: nn.Module) -> dict[int, list[str]]:
    """Return where modules and parameters are, by identity."""
    places: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        for item in (module, *module._parameters.values()):
            if item is not None:
                places.setdefault(id(item), []).append(name)
    return places


def _sharing(
    name: str, module: nn.Module, places: Mapping[int, list[str]]
) -> str | None:
    """Return the reason if a layer is also elsewhere, or its parameters."""
    for item in (module, *module._parameters.values()):
        for other in places.get(id(item), []):
            if other != name:
                return f'it shares its parameters with `{other}`'
    return None
