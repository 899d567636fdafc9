# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Turn a checkpoint of ``ohmydroid/reducenet`` into one of this package."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from reducenet_mm.engine.launch import usage_errors
from reducenet_mm.export.published import ConversionResult, convert_published

PROG = 'published_to_reducenet.py'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description='Write a checkpoint of ohmydroid/reducenet in our names, '
        'and its config beside it. Block, depth, widths and number of '
        'classes are read from the tensors. A file that is not exactly such '
        'a network, or could mean more than one, is refused.',
    )
    parser.add_argument('src', metavar='SRC', help='published .pth file')
    parser.add_argument(
        'dst',
        metavar='DST',
        help='.pth file to write; its config is written beside it as .py',
    )
    return parser.parse_args(argv)


def describe(result: ConversionResult) -> str:
    """Say what was found and written."""
    network = result.network
    lora = 'none'
    if network.lora is not None:
        lora = f'part of the student (kind {network.lora["kind"]})'
    elif network.unused_lora is not None:
        lora = f'left out, as its gate is 0 (kind {network.unused_lora})'
    return (
        f'{result.weights} and {result.config}: block {network.block}, depth '
        f'{network.depth}, base_channels {network.base_channels}, expansion '
        f'{network.expansion}, {network.num_classes} classes; saved as the '
        f'{"teacher" if network.scaler else "student"} (scaler '
        f'{network.scaler:g}); lora: {lora}'
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Convert as the command line says."""
    args = parse_args(argv)
    with usage_errors(PROG):
        result = convert_published(args.src, args.dst)
    print(describe(result))


if __name__ == '__main__':
    main()
