# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Count teacher, student and deployed network side by side, stage by stage.

Parameters, and operations by two conventions, which the table and the JSON
file name: multiply-adds of convolutions and linear layers, which is what
papers give, and MMEngine's count, which is what MMPretrain's ``get_flops.py``
gives and takes in norms and pooling too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from reducenet_mm.engine import launch
from reducenet_mm.engine.cfg_options import CfgOptions
from reducenet_mm.engine.config_file import read_config
from reducenet_mm.experiments.benchmarks.complexity import (
    COUNTS,
    build_networks,
    input_shape,
    measure_complexity,
    total,
)
from reducenet_mm.experiments.code_version import versions


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='get_flops.py',
        description='Count parameters and operations of the teacher (scaler '
        '1), the student (scaler 0) and the deployed network (merged, norms '
        'folded) of a classifier or distillation config. Reads no data and '
        'no checkpoint.',
    )
    parser.add_argument('config', help='path of a config')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        metavar=('H', 'W'),
        help='height and width of an image; one number for both; default: '
        "the crop in the config's pipelines",
    )
    launch.add_json_argument(parser)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='as of train.py',
    )
    return parser.parse_args(argv)


def count(args: argparse.Namespace) -> dict[str, Any]:
    """Build and count as the command line says."""
    cfg = read_config(args.config, args.cfg_options)
    networks = build_networks(cfg)
    shape = input_shape(cfg, networks['deployed'], args.shape)
    found = {}
    for name, network in networks.items():
        parts = measure_complexity(network, shape)
        found[name] = dict(
            parts={part: asdict(one) for part, one in parts.items()},
            total=asdict(total(parts)),
        )
    return dict(
        config=args.config,
        cfg_options=args.cfg_options or {},
        input_shape=list(shape),
        counts=COUNTS,
        versions=versions(),
        networks=found,
    )


def show(result: dict[str, Any]) -> None:
    """Print one section for each count, one column for each network."""
    networks = result['networks']
    shape = 'x'.join(map(str, result['input_shape']))
    table = Table(title=f'{result["config"]}, one image of {shape}')
    table.add_column('')
    for name in networks:
        table.add_column(name, justify='right', no_wrap=True)
    for key, meaning in result['counts'].items():
        table.add_section()
        table.add_row(f'[bold]{key}[/]: {meaning}')
        # A stage may be in the teacher only; the order is that of the first.
        parts = [part for one in networks.values() for part in one['parts']]
        for part in dict.fromkeys(parts):
            rows = [one['parts'].get(part) for one in networks.values()]
            cells = ['-' if row is None else f'{row[key]:,}' for row in rows]
            table.add_row(f'  {part}', *cells)
        cells = [f'{one["total"][key]:,}' for one in networks.values()]
        table.add_row('  total', *cells, style='bold')
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Count, print, write."""
    args = parse_args(argv)
    with launch.usage_errors('get_flops.py'):
        launch.check_json(args)
        result = count(args)
    show(result)
    launch.write_json(args, 'get_flops.py', result)


if __name__ == '__main__':
    main()
