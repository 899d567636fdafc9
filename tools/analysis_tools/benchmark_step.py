# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Time and weigh one training step of every way to train a student.

All take the same batch. Four train every parameter of the same student:

* ``plain``: the student alone, on labels;
* ``mmrazor``: MMRazor's ``SingleTeacherDistill`` with two networks, the
  teacher being the supernet at scaler 1 in an instance of its own;
* ``supernet``: ``SupernetDistill``, teacher and student in one instance;
* ``annealed``: the same while the scaler is between 1 and 0, so that the
  student computes the frozen branches (in a ``sequential`` block, the
  activation between the two convolutions).

``inplace`` is ``InplaceDistill``: both networks train. Four stages train
little of the student; three have a target, see ``TARGETS``:

* ``weight_lora``: ``reuse/lora.py`` with a branch in weight space, against
  ``supernet``;
* ``half_rank_lora``: the same with half of the rank;
* ``conv_lora``: ``reuse/lora.py`` with one of convolutions, ``kxk_1x1``;
* ``new_conv``: ``reuse/main_conv.py`` with the block ``sequential``, whose
  student has one new convolution in the place of a pair (started as their
  merge; a fresh one costs the same), against ``plain_teacher``: the plain
  student's step on labels, all of it training, and the teacher's forward.

With a ``GraftedBackbone``, for which there is no block, three other steps on
labels take the place of ``new_conv`` and ``plain_teacher``: the grafted
network's at scaler 1 (``scaler_1``), at scaler 0 (``scaler_0``), and after
``ungraft`` (``ungrafted``). ``plain`` is the stock network.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmpretrain.structures import DataSample
from rich.console import Console
from rich.table import Table
from torch import nn

from reducenet_mm.engine.config_file import read_config
from reducenet_mm.engine.hooks.memory_format_hook import check_channels_last
from reducenet_mm.engine.launch import (
    add_json_argument,
    check_json,
    positive,
    usage_errors,
    write_json,
)
from reducenet_mm.engine.preflight import check_config, no_side_effects
from reducenet_mm.experiments.benchmarks.step_cost import (
    MEMORY_MEASURE,
    TrainingStep,
)
from reducenet_mm.experiments.benchmarks.step_models import (
    Models,
    build_variants,
)
from reducenet_mm.experiments.benchmarks.timing import (
    summarize,
    time_interleaved,
)
from reducenet_mm.experiments.code_version import code_version

RATIOS = (
    ('supernet', 'mmrazor'),
    ('supernet', 'plain'),
    ('mmrazor', 'plain'),
    ('annealed', 'supernet'),
    ('inplace', 'supernet'),
    ('weight_lora', 'supernet'),
    ('half_rank_lora', 'supernet'),
    ('conv_lora', 'supernet'),
    ('new_conv', 'plain_teacher'),
    ('scaler_1', 'plain'),
    ('scaler_0', 'plain'),
    ('ungrafted', 'plain'),
)
TARGETS = {
    'weight_lora/supernet': 1.05,
    'half_rank_lora/supernet': 1.05,
    'new_conv/plain_teacher': 1.10,
}
"""Ratio of times -> the most that it is meant to be."""

PRESETS = Path(__file__).parents[2] / 'configs/_base_'
MIB = 2**20


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='benchmark_step.py',
        description='Time a training step of the plain student, of '
        "MMRazor's SingleTeacherDistill with two networks, of "
        'SupernetDistill with one (whole, annealed, with lora, with new '
        'convolutions) and of InplaceDistill, interleaved, and measure its '
        'peak memory. Run it on an idle machine.',
    )
    parser.add_argument(
        '--config',
        help='a teacher or student config whose network is taken; default: '
        'a CIFAR ReduceNet of the options below',
    )
    parser.add_argument(
        '--depth', type=positive, help='6n+2, 18 or 34; default: 20'
    )
    parser.add_argument('--width', type=positive, help='base_channels')
    parser.add_argument('--expansion', type=positive, help='default: 1')
    parser.add_argument('--batch', type=int, default=64, help='images')
    parser.add_argument(
        '--shape',
        type=positive,
        nargs=3,
        metavar=('C', 'H', 'W'),
        help='default: 32x32 images with as many channels as the network of '
        '--config takes, else 3',
    )
    parser.add_argument('--repeats', type=int, default=15, help='rounds')
    parser.add_argument(
        '--channels-last',
        action='store_true',
        help='channels_last weights, in all of them',
    )
    parser.add_argument('--threads', type=positive, help='of torch')
    add_json_argument(parser)
    args = parser.parse_args(argv)
    if args.repeats < 2 or args.batch < 2:
        parser.error('--repeats and --batch must be at least 2')
    own = (args.depth, args.width, args.expansion)
    if args.config is not None and own != (None, None, None):
        parser.error(
            '--depth, --width and --expansion are for the network that is '
            'timed without --config. Leave them out beside it.'
        )
    args.depth = args.depth or 20
    args.expansion = args.expansion or 1
    return args


def network_config(args: argparse.Namespace) -> Config:
    """Return a config whose ``model`` is the supernet's classifier."""
    if args.config is not None:
        return read_config(args.config, None)
    width = args.width or (64 if args.depth in (18, 34) else 16)
    backbone = dict(
        type='ReduceNet',
        depth=args.depth,
        base_channels=width,
        expansion=args.expansion,
        in_channels=args.shape[0] if args.shape else 3,
    )
    head = dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=width * (8 if args.depth in (18, 34) else 4),
        loss=dict(type='CrossEntropyLoss'),
    )
    model = dict(
        type='ImageClassifier',
        backbone=backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=head,
    )
    return Config(dict(default_scope='mmpretrain', model=model))


def input_shape(shape: Sequence[int] | None, model: nn.Module) -> list[int]:
    """Return (C, H, W), as given or as the network wants it.

    Raises:
        ValueError: If the network takes images of other channels, or has
            no convolution.
    """
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    if not convs:
        raise ValueError('--config: the network has no convolution.')
    channels = convs[0].in_channels
    if shape is None:
        return [channels, 32, 32]
    if shape[0] != channels:
        raise ValueError(
            f'--shape {" ".join(map(str, shape))}: the network takes images '
            f'of {channels} channel(s).'
        )
    return list(shape)


def build_models(cfg: Config) -> tuple[Models, Models]:
    """Build the models of a config, with the presets of the project."""
    distiller, lora, new_conv = (
        Config.fromfile(PRESETS / f'{name}.py').to_dict()
        for name in ('distill/soft_labels', 'reuse/lora', 'reuse/main_conv')
    )
    return build_variants(cfg, distiller['distiller'], lora, new_conv)


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Build, time and summarize as the command line says."""
    code = code_version()  # of what is in memory, whatever follows
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    cfg = network_config(args)
    check_config(cfg, (), init_weights=False)
    with no_side_effects():
        models, teachers = build_models(cfg)
    args.shape = input_shape(args.shape, models['plain'])
    inputs = torch.randn(args.batch, *args.shape)
    if args.channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        for model in (*models.values(), *teachers.values()):
            check_channels_last(model)
            model.to(memory_format=torch.channels_last)
    classes = models['plain'].head.num_classes
    samples = [
        DataSample().set_gt_label(i % classes) for i in range(args.batch)
    ]
    steps = {
        name: TrainingStep(model, inputs, samples, teachers.get(name))
        for name, model in models.items()
    }
    times = time_interleaved(steps, args.repeats)
    unused = {'json'}
    if args.config is not None:
        unused |= {'depth', 'width', 'expansion'}  # those of the config
    settings = {k: v for k, v in vars(args).items() if k not in unused}
    settings.update(threads=torch.get_num_threads(), precision='float32')
    return dict(
        settings=settings,
        code=code,
        **summarize(times, RATIOS),
        targets=TARGETS,
        memory={name: step.memory() for name, step in steps.items()},
        memory_measure=MEMORY_MEASURE,
    )


def show(result: dict[str, Any]) -> None:
    """Print times, ratios and memory as tables."""
    table = Table(title='One training step')
    for heading in ('', 'median', 'quartile 1', 'quartile 3', 'target'):
        table.add_column(heading, justify='right' if heading else 'left')
    for name, value in result['milliseconds'].items():
        table.add_row(f'{name}, ms', *(f'{v:.1f}' for v in value.values()))
    table.add_section()
    for name, value in result['ratios'].items():
        target = result['targets'].get(name)
        cells = [f'{v:.3f}' for v in value.values()]
        cells += [] if target is None else [f'<= {target:.2f}']
        table.add_row(name, *cells)
    memory = Table(title='Memory, MiB', caption=result['memory_measure'])
    for heading in ('', 'resident', 'peak'):
        memory.add_column(heading, justify='right' if heading else 'left')
    for name, value in result['memory'].items():
        memory.add_row(name, *(f'{v / MIB:.2f}' for v in value.values()))
    for item in (table, memory):
        Console().print(item)
    print(json.dumps(result['settings']))


def main(argv: Sequence[str] | None = None) -> None:
    """Time, print, write."""
    args = parse_args(argv)
    os.environ.setdefault('KINETO_LOG_LEVEL', '5')  # the profiler's chatter
    with usage_errors('benchmark_step.py'):
        check_json(args)
        result = benchmark(args)
    show(result)
    write_json(args, 'benchmark_step.py', result)


if __name__ == '__main__':
    main()
