# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Time what seeding and atomic checkpoints cost, on the data of a config.

An epoch with ``SeededSampler``, ``SeedSample`` and ``SeededStepHook`` beside
one of the same pipeline with MMEngine's ``DefaultSampler``; and a checkpoint
by the backend ``atomic`` beside MMEngine's ``local``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from reducenet_mm.engine import launch, preflight
from reducenet_mm.engine.cfg_options import CfgOptions
from reducenet_mm.engine.config_file import read_config
from reducenet_mm.engine.training import SECTIONS
from reducenet_mm.experiments.benchmarks.overhead import (
    measure_overhead,
    without_seeds,
)
from reducenet_mm.experiments.code_version import versions
from reducenet_mm.files import check_folder

LOADERS = ('train_dataloader',)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='benchmark_overhead.py',
        description='Time an epoch seeded and not, and a checkpoint written '
        'atomically and not, interleaved. Run it on an idle machine.',
    )
    parser.add_argument('config', help='path of a training config')
    parser.add_argument('--rounds', type=int, default=10, help='at least 2')
    parser.add_argument('--threads', type=launch.positive, help='of torch')
    parser.add_argument(
        '--work-dir',
        default='./work_dirs',
        help='folder to write to and to leave as it was; its disk matters',
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
    return args


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Check the config, then measure as the command line says."""
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    with launch.usage_errors('benchmark_overhead.py'):
        launch.check_json(args)
        check_folder(args.work_dir)
        cfg = read_config(args.config, args.cfg_options)
        preflight.check_sections(cfg, SECTIONS)
        launch.set_loader_defaults(cfg, LOADERS)
        preflight.check_config(cfg, LOADERS, init_weights=True)
        without_seeds(cfg.train_dataloader)
    Path(args.work_dir).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder:
        measured = measure_overhead(cfg, args.rounds, Path(folder))
    settings = dict(
        config=args.config,
        cfg_options=args.cfg_options or {},
        threads=torch.get_num_threads(),
        loader_processes=0,
        cpu_count=os.cpu_count(),
        load_average_1min=os.getloadavg()[0],
    )
    return dict(settings=settings, versions=versions(), **measured)


def show(result: dict[str, Any]) -> None:
    """Print times and percentages as a table."""
    title = f'{result["settings"]["config"]}, {result["rounds"]} rounds'
    table = Table(title=title)
    for heading in ('', 'median', 'first quartile', 'third quartile'):
        table.add_column(heading, justify='right' if heading else 'left')
    for name, clocks in result['seconds'].items():
        for clock, value in clocks.items():
            cells = (f'{1e3 * one:.1f}' for one in value.values())
            table.add_row(f'{name}, {clock}, ms', *cells)
    table.add_section()
    for name, value in result['percent_of_epoch'].items():
        cells = (f'{one:.2f}' for one in value.values())
        table.add_row(f'{name}, % of epoch', *cells)
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Time, print, write."""
    args = parse_args(argv)
    result = benchmark(args)
    show(result)
    launch.write_json(args, 'benchmark_overhead.py', result)


if __name__ == '__main__':
    main()
