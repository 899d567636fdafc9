# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Latency and throughput of networks in several ways of running them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from reducenet_mm.engine.preflight import no_side_effects
from reducenet_mm.export.onnx_file import (
    OnnxClassifier,
    require_onnx,
    to_onnx,
)
from reducenet_mm.export.plain_model import plain_model_cfg

from .complexity import build_networks
from .step_cost import summarize, time_interleaved
from .timing import quartiles

RATIOS = (
    ('student', 'teacher'),
    ('deployed', 'teacher'),
    ('deployed', 'student'),
    ('deployed', 'plain'),
)
"""Pairs of networks of which the times are divided."""

Runs = dict[str, Callable[[], object]]
"""One forward pass of each network, by its name."""


class Unavailable(Exception):
    """A way of running networks that does not work on this machine."""


def compared_networks(cfg: Config) -> dict[str, nn.Module]:
    """Build, with random weights, what is to be timed.

    Args:
        cfg: The config of a classifier or of a distillation.

    Returns:
        In eval mode: those of ``complexity.build_networks``, and ``plain``:
        the network that one would write by hand in the shape of the
        student, MMPretrain's ResNet of basic blocks, its norms folded.

    Raises:
        ValueError: If ``cfg`` has no ``ReduceNet`` backbone, or a wrong key
            or value inside ``model``.
    """
    plain = fuse_conv_bn(plain_network(cfg))
    return {**build_networks(cfg), 'plain': plain}


def plain_network(cfg: Config) -> nn.Module:
    """Build the student's shape of parts of MMPretrain, in eval mode.

    Raises:
        ValueError: If ``cfg`` has no ``ReduceNet`` backbone.
    """
    with no_side_effects(), DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(plain_model_cfg(cfg)).eval()


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
