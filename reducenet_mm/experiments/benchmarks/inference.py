# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Latency and throughput of networks in several ways of running them.

Beside a ReduceNet's networks stands a reference in which, where there is one,
nothing is of this project: MMPretrain's own ResNet of the student's shape.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.models.backbones.resnet_cifar import ResNet_CIFAR
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from reducenet_mm.engine.preflight import no_side_effects
from reducenet_mm.export.onnx_file import (
    OnnxClassifier,
    require_onnx,
    to_onnx,
)
from reducenet_mm.export.plain_data import unscoped
from reducenet_mm.export.plain_model import plain_model_cfg
from reducenet_mm.export.student_backbone import StudentResNet_CIFAR

from .complexity import build_networks
from .timing import quartiles, summarize, time_interleaved

RATIOS = (
    ('student', 'teacher'),
    ('deployed', 'teacher'),
    ('deployed', 'student'),
    ('deployed', 'plain'),
)
"""Pairs of networks of which the times are divided."""

Runs = dict[str, Callable[[], object]]
"""One forward pass of each network, by its name."""


class StockResNet_CIFAR(ResNet_CIFAR):
    """MMPretrain's ``ResNet_CIFAR``; its table lacks the depths 6n+2."""

    arch_settings: ClassVar[dict] = StudentResNet_CIFAR.arch_settings


class Unavailable(Exception):
    """A way of running networks that does not work on this machine."""


def compared_networks(cfg: Config) -> dict[str, nn.Module]:
    """Build, with random weights, what is to be timed.

    Args:
        cfg: The config of a classifier or of a distillation.

    Returns:
        In eval mode: those of ``complexity.build_networks``, and ``plain``:
        :func:`plain_network`, its norms folded by MMCV.

    Raises:
        ValueError: If ``cfg`` has no ``ReduceNet`` backbone, or a wrong key
            or value inside ``model``.
    """
    plain = fuse_conv_bn(plain_network(cfg))
    return {**build_networks(cfg), 'plain': plain}


def plain_network(cfg: Config) -> nn.Module:
    """Build the reference of the student's shape, with norms, in eval mode.

    Returns:
        A classifier on MMPretrain's own ``ResNet`` or ``ResNet_CIFAR``. Where
        neither is the student's function, since its blocks end without an
        activation or have another one, on the backbone that is exported;
        that of a ``GraftedBackbone`` is its host.

    Raises:
        ValueError: If ``cfg`` has no ``ReduceNet`` backbone.
    """
    model = plain_model_cfg(cfg)
    model['backbone'] = _stock(model['backbone'])
    with no_side_effects(), DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(model).eval()


def _stock(exported: Mapping[str, Any]) -> dict[str, Any]:
    """Return MMPretrain's config of an exported backbone, or the latter."""
    backbone = dict(exported)
    act_cfg = backbone.pop('act_cfg', dict(type='ReLU'))
    is_relu = unscoped(act_cfg['type']) == 'ReLU'
    if (
        backbone['type'] != StudentResNet_CIFAR.__name__
        or not backbone.get('out_act', True)
        or not is_relu
    ):
        return dict(exported)
    width = backbone.get('base_channels', StudentResNet_CIFAR.default_width)
    backbone.update(
        type=StockResNet_CIFAR,
        base_channels=width,
        stem_channels=width,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
    )
    backbone.setdefault('out_indices', (2,))
    return backbone


def measure_modes(
    networks: Mapping[str, nn.Module],
    shape: Sequence[int],
    batch_sizes: Sequence[int],
    modes: Sequence[str],
    rounds: int,
) -> dict[str, Any]:
    """Time networks in all modes, interleaved, after a warm-up.

    In every round each network runs once in each mode, so that a
    disturbance of the machine meets all of them.

    Args:
        networks: In eval mode, on the CPU, by name; not changed.
        shape: (C, H, W) of one image.
        batch_sizes: Images of one forward pass.
        modes: Keys of :data:`MODES`.
        rounds: How often; at least 2.

    Returns:
        ``results`` by mode and batch size, see :func:`summarize_mode`, and
        ``skipped``: the reason by mode that does not work here.
    """
    results: dict[str, Any] = {mode: {} for mode in modes}
    skipped: dict[str, str] = {}
    with torch.no_grad():
        for batch in batch_sizes:
            images = torch.randn(batch, *shape)
            runs: dict[str, Runs] = {}
            for mode in (m for m in modes if m not in skipped):
                try:
                    runs[mode] = MODES[mode](networks, images)
                except Unavailable as error:
                    skipped[mode] = str(error)
            times = _time_modes(runs, rounds)
            for mode, by_network in times.items():
                results[mode][str(batch)] = summarize_mode(by_network, batch)
    results = {mode: results[mode] for mode in modes if mode not in skipped}
    return dict(results=results, skipped=skipped)


def summarize_mode(
    times: Mapping[str, Sequence[float]], batch: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Return medians and quartiles for one mode and batch size.

    Args:
        times: Seconds of a forward pass by network, all in as many rounds.
        batch: Images of one pass.

    Returns:
        ``milliseconds`` of a pass and ``images_per_second`` by network, and
        ``ratios`` of the times of a round by pair, see :data:`RATIOS`.
    """
    throughput = {
        name: quartiles([batch / one for one in seconds])
        for name, seconds in times.items()
    }
    return dict(summarize(times, RATIOS), images_per_second=throughput)


def _time_modes(
    runs: Mapping[str, Runs], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Return seconds by mode and network."""
    actions: dict[str, Callable[[], Any]] = {
        f'{mode}/{name}': run
        for mode, of_mode in runs.items()
        for name, run in of_mode.items()
    }
    times = time_interleaved(actions, rounds)
    return {
        mode: {name: times[f'{mode}/{name}'] for name in of_mode}
        for mode, of_mode in runs.items()
    }


def _eager(networks: Mapping[str, nn.Module], images: Tensor) -> Runs:
    return {name: partial(one, images) for name, one in networks.items()}


def _channels_last(networks: Mapping[str, nn.Module], images: Tensor) -> Runs:
    last = torch.channels_last
    copies = {
        name: copy.deepcopy(network).to(memory_format=last)
        for name, network in networks.items()
    }
    return _eager(copies, images.contiguous(memory_format=last))


def _compiled(networks: Mapping[str, nn.Module], images: Tensor) -> Runs:
    # Each batch size gets code of its own, as who deploys one would have it.
    torch.compiler.reset()
    compiled: dict[str, Any] = {
        name: torch.compile(copy.deepcopy(network), dynamic=False)
        for name, network in networks.items()
    }
    try:
        for network in compiled.values():
            network(images)
    except (ImportError, OSError, RuntimeError) as error:
        raise Unavailable(_reason('torch.compile', error)) from error
    return _eager(compiled, images)


def _onnx(networks: Mapping[str, nn.Module], images: Tensor) -> Runs:
    try:
        require_onnx()
    except ImportError as error:
        raise Unavailable(_reason('onnxruntime', error)) from error
    # In as many threads as torch uses.
    return {
        name: partial(OnnxClassifier(to_onnx(network, images)), images)
        for name, network in networks.items()
    }


def _reason(what: str, error: Exception) -> str:
    """Return one line on why something does not work."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else 'no message'
    return f'{what}: {type(error).__name__}: {first}'


MODES: dict[str, Callable[[Mapping[str, nn.Module], Tensor], Runs]] = {
    'eager': _eager,
    'channels_last': _channels_last,
    'compiled': _compiled,
    'onnx': _onnx,
}
"""Name -> what prepares one forward pass of every network on given images."""
