# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Time teacher, student, deployed network and a plain reference, forward.

In torch as they are (``eager``), with ``channels_last`` weights and images,
``compiled`` by ``torch.compile``, and in onnxruntime (``onnx``). All take
turns within each round; what does not work on this machine is left out, with
the reason. Weights are random: they do not matter for the time. The ONNX
exporter folds norms of its own accord, so that there the student is as the
deployed network. The reference, ``plain``, is MMPretrain's own ResNet in the
student's shape; where none is the same function, what this project exports.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from reducenet_mm.engine import launch
from reducenet_mm.engine.cfg_options import CfgOptions
from reducenet_mm.engine.config_file import read_config
from reducenet_mm.experiments.benchmarks.complexity import input_shape
from reducenet_mm.experiments.benchmarks.inference import (
    MODES,
    compared_networks,
    measure_modes,
)
from reducenet_mm.experiments.benchmarks.latency import BATCH_SIZES, conditions
from reducenet_mm.experiments.code_version import versions

UNITS = {
    'milliseconds': ('ms', '.3f'),
    'images_per_second': ('images/s', '.1f'),
    'ratios': ('time', '.3f'),
}
"""Key of a result -> what the table calls it, and how it writes it."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='benchmark.py',
        description='Time a forward pass of the teacher (scaler 1), the '
        'student (scaler 0), the deployed network (merged, norms folded) and '
        "MMPretrain's own ResNet of the same shape (norms folded; where it "
        'has none that computes the same: the exported plain network), '
        'interleaved. Reads no data and no checkpoint. Run it on an idle '
        'machine.',
    )
    parser.add_argument('config', help='path of a config with a ReduceNet')
    parser.add_argument(
        '--batch-sizes',
        type=int,
        nargs='+',
        default=list(BATCH_SIZES),
        metavar='N',
        help='images of a pass; default: %(default)s',
    )
    parser.add_argument(
        '--modes',
        nargs='+',
        choices=list(MODES),
        default=list(MODES),
        help='ways to run them; default: all',
    )
    parser.add_argument(
        '--rounds', type=int, default=50, help='at least 2; default: 50'
    )
    parser.add_argument(
        '--threads',
        type=launch.positive,
        help='of torch and onnxruntime; default: of torch',
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        metavar=('H', 'W'),
        help='as of get_flops.py',
    )
    launch.add_json_argument(parser)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='as of train.py',
    )
    args = parser.parse_args(argv)
    if args.rounds < 2:
        parser.error('--rounds must be at least 2')
    if min(args.batch_sizes) < 1:
        parser.error('--batch-sizes must be at least 1')
    return args


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Build, then measure as the command line says."""
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    with launch.usage_errors('benchmark.py'):
        cfg = read_config(args.config, args.cfg_options)
        networks = compared_networks(cfg)
        shape = input_shape(cfg, networks['plain'], args.shape)
    settings = dict(
        config=args.config,
        cfg_options=args.cfg_options or {},
        input_shape=list(shape),
        plain=type(networks['plain'].backbone).__name__,
        batch_sizes=args.batch_sizes,
        modes=args.modes,
        rounds=args.rounds,
        **conditions(),
    )
    found = versions()
    with suppress(PackageNotFoundError):
        found['onnxruntime'] = version('onnxruntime')
    measured = measure_modes(
        networks, shape, args.batch_sizes, args.modes, args.rounds
    )
    return dict(settings=settings, versions=found, **measured)


def show(result: dict[str, Any]) -> None:
    """Print one table for each mode, and what was left out."""
    settings, console = result['settings'], Console()
    for mode, batches in result['results'].items():
        table = Table(title=f'{mode}: median and quartiles')
        table.add_column('')
        for batch in batches:
            table.add_column(f'batch {batch}', justify='right', no_wrap=True)
        some = next(iter(batches.values()))
        for key, (unit, digits) in UNITS.items():
            table.add_section()
            for name in some[key]:
                values = (one[key][name] for one in batches.values())
                cells = (_cell(value, digits) for value in values)
                table.add_row(f'{name}, {unit}', *cells)
        console.print(table)
    for mode, reason in result['skipped'].items():
        console.print(f'{mode} was skipped: {reason}', markup=False)
    shape = 'x'.join(map(str, settings['input_shape']))
    console.print(
        f'{settings["config"]}, images of {shape}, {settings["rounds"]} '
        f'rounds, {settings["threads"]} threads on {settings["cpu_count"]} '
        f'cores, {settings["precision"]}; plain: {settings["plain"]}',
        markup=False,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Time, print, write."""
    args = parse_args(argv)
    with launch.usage_errors('benchmark.py'):
        launch.check_json(args)
    result = benchmark(args)
    show(result)
    launch.write_json(args, 'benchmark.py', result)


def _cell(value: dict[str, float], digits: str) -> str:
    """Return a median and its quartiles: '1.234 [1.201, 1.310]'."""
    middle, low, high = (
        f'{value[key]:{digits}}'
        for key in ('median', 'quartile1', 'quartile3')
    )
    return f'{middle} [{low}, {high}]'


if __name__ == '__main__':
    main()
