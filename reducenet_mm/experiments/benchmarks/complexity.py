# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Parameters and operations of teacher, student and deployed network.

By part of the network, and by two conventions: see :data:`COUNTS`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from typing import Any

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from reducenet_mm.datasets.wrapped import innermost
from reducenet_mm.engine.preflight import check_config, told_by_layer
from reducenet_mm.export.plain_data import unscoped
from reducenet_mm.models.deploy import Deployable
from reducenet_mm.models.structure import first_stage
from reducenet_mm.models.supernet import hosts, set_scaler, ungraft

from ..steps import COUNTED

COUNTS = {
    'params': "parameters that the network's output depends on",
    'multiply_adds': f'multiply-adds of {COUNTED}, nothing else',
    'mmengine_flops': "MMEngine's count: the same multiply-adds, and 2 for "
    'each input value of a batch norm, 1 for each of an average pooling',
}
"""Field of :class:`Complexity` -> what it counts, for readers of a result."""

STEM, CLASSIFIER, OTHER = 'stem', 'classifier', 'other'


@dataclass(frozen=True)
class Complexity:
    """What a network, or a part of it, costs for one more image.

    What is paid once for a batch, however large, is left out: the product
    that a LoRA of kind ``weight`` adds to the weight.

    Attributes:
        params: See :data:`COUNTS`; likewise the others.
        multiply_adds: By the convention of this project, and of papers.
        mmengine_flops: By the convention of MMEngine's ``get_flops.py``.
    """

    params: int = 0
    multiply_adds: int = 0
    mmengine_flops: int = 0

    def __add__(self, other: Complexity) -> Complexity:
        pairs = zip(astuple(self), astuple(other))
        return Complexity(*(one + more for one, more in pairs))

    def __sub__(self, other: Complexity) -> Complexity:
        pairs = zip(astuple(self), astuple(other))
        return Complexity(*(one - less for one, less in pairs))


def build_networks(cfg: Config) -> dict[str, nn.Module]:
    """Build, with random weights, the networks that a config has.

    Neither data nor checkpoints are read.

    Args:
        cfg: The config of a classifier or of a distillation. It is not
            changed.

    Returns:
        In eval mode: ``teacher`` (scaler 1), ``student`` (scaler 0), and
        ``deployed``, which is the student merged, without branches, its
        norms folded into its convolutions: what a ``deploy`` backbone is.
        Norms that cannot be folded are left in it. A network without
        branches has no ``teacher``.

    Raises:
        ValueError: If a key or a value inside ``cfg.model`` is wrong;
            likewise ``TypeError``.
    """
    model: Any = check_config(cfg, (), init_weights=False)
    network = getattr(model, 'architecture', model).eval()
    networks: dict[str, nn.Module] = {}
    if next(hosts(network), None) is None:
        networks['student'] = copy.deepcopy(network)
    else:
        for name, scaler in (('teacher', 1.0), ('student', 0.0)):
            networks[name] = copy.deepcopy(network)
            set_scaler(networks[name], scaler)
    networks['deployed'] = _deployed(ungraft(network))
    return networks


def _deployed(network: Any) -> nn.Module:
    """Fold the norms of a network without branches, in place."""
    if not isinstance(network.backbone, Deployable):
        return fuse_conv_bn(network)  # another host, maybe of other blocks
    with suppress(ValueError):  # not all can be folded: it ships with them
        network.backbone.switch_to_deploy()
    return network


def input_shape(
    cfg: Config, network: nn.Module, size: Sequence[int] | None = None
) -> tuple[int, int, int]:
    """Return (C, H, W) of an image of the config's data set.

    Args:
        cfg: The full config.
        network: What the image goes into.
        size: H, or H and W. None takes the last crop in the pipeline of the
            test set or, without one there, of the training set.

    Raises:
        ValueError: If ``size`` is wrong, or None and there is no crop.
    """
    size = size or _crop_size(cfg, 'test') or _crop_size(cfg, 'train')
    if size is None:
        raise ValueError(
            f'the pipelines of {cfg.filename} do not say how big an image '
            'is: there is no crop_size. Give --shape H [W].'
        )
    if not 1 <= len(size) <= 2 or min(size) < 1:
        raise ValueError(
            f'an image has H, or H and W, of at least 1, got {list(size)}. '
            'Give --shape H [W].'
        )
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    return (first.in_channels, size[0], size[-1])


def measure_complexity(
    network: nn.Module, shape: Sequence[int]
) -> dict[str, Complexity]:
    """Count a network part by part.

    Args:
        network: A classifier with a ``backbone``; it is not changed.
        shape: (C, H, W) of one image.

    Returns:
        By part that costs anything: ``stem``, then every stage by its name
        in the backbone, and ``classifier``, which is all outside of the
        backbone; ``other`` is what none of their modules computes.

    Raises:
        ValueError: If the network cannot take such an image.
    """
    network = copy.deepcopy(network).eval()
    one, two = torch.zeros(1, *shape), torch.zeros(2, *shape)
    with told_by_layer(network, f'an image of shape {tuple(shape)}'):
        once = _count_modules(network, one)
    modules = {
        name: both - once[name]
        for name, both in _count_modules(network, two).items()
    }
    params = _used_parameters(network, one)
    parts: dict[str, Complexity] = {}
    for part, names in _parts(network).items():
        inside = tuple(f'{name}.' for name in names)
        used = sum(n for key, n in params.items() if key.startswith(inside))
        zero = Complexity(params=used)
        parts[part] = sum((modules[name] for name in names), zero)
    whole = modules[''] + Complexity(params=sum(params.values()))
    parts[OTHER] = whole - total(parts)
    return {part: cost for part, cost in parts.items() if cost != Complexity()}


def total(parts: Mapping[str, Complexity]) -> Complexity:
    """Return the sum of all parts."""
    return sum(parts.values(), Complexity())


def _count_modules(
    network: nn.Module, images: Tensor
) -> dict[str, Complexity]:
    """Return the operations of a batch by module; '' is the network."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    root = type(network).__name__
    ours = {'': counter.get_total_flops() // 2}
    for path, counts in counter.get_flop_counts().items():
        if path.startswith(f'{root}.'):
            ours[path[len(root) + 1 :]] = sum(counts.values()) // 2
    analyzer = FlopAnalyzer(network, (images,))
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with torch.no_grad():  # else with_cp checkpoints, which it cannot trace
        theirs = analyzer.tracer_warnings('none').by_module()
    return {
        name: Complexity(0, ours.get(name, 0), int(theirs[name]))
        for name, _ in network.named_modules()
    }


def _used_parameters(network: nn.Module, images: Tensor) -> dict[str, int]:
    """Return the sizes of the parameters that get a gradient, by name."""
    network.requires_grad_(True).zero_grad(set_to_none=True)
    with torch.enable_grad():
        network(images).sum().backward()
    return {
        name: param.numel()
        for name, param in network.named_parameters()
        if param.grad is not None
    }


def _parts(network: nn.Module) -> dict[str, list[str]]:
    """Return the names of the modules of each part.

    Where the stages begin is where the role ``stem`` ends.
    """
    parts: dict[str, list[str]] = {STEM: []}
    in_stages = False
    backbone: Any = network.backbone
    begin = first_stage(backbone)
    for name, child in backbone.named_children():
        inner = [name]
        if isinstance(child, nn.ModuleList):  # is not called itself
            inner = [f'{name}.{index}' for index in range(len(child))]
        in_stages = in_stages or name == begin
        for one in inner:
            part = one if in_stages else STEM
            parts.setdefault(part, []).append(f'backbone.{one}')
    children = [name for name, _ in network.named_children()]
    parts[CLASSIFIER] = [name for name in children if name != 'backbone']
    return parts


def _crop_size(cfg: Config, split: str) -> Sequence[int] | None:
    """Return what the last crop of a pipeline leaves: H, or H and W."""
    dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset') or {}
    for transform in reversed(innermost(dataset)[0].get('pipeline') or []):
        size = transform.get('crop_size')
        if _name(transform.get('type')) == 'RandomResizedCrop':
            size = transform.get('scale')
        if size is not None:
            return [size] if isinstance(size, int) else list(size)
    return None


def _name(kind: Any) -> str:
    """Return the name of a type, given as a class or with a scope."""
    text = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return unscoped(text)
