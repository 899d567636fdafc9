# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Write the student of a checkpoint as plain weights and a plain config."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmengine.config import DictAction

from reducenet_mm.engine.launch import read_config, usage_errors
from reducenet_mm.export import ParityError, export_student


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='export.py',
        description='Write the student of a teacher or distillation '
        'checkpoint as DIR/student.pth (weights of an ordinary network, '
        'without any branch) and DIR/student.py (its config). Both are '
        'checked first: the plain network must answer as the supernet does '
        'at scaler 0; otherwise nothing is written.',
    )
    parser.add_argument('config', help='config of the training')
    parser.add_argument('checkpoint', help='checkpoint of the training')
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder to write to'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config, as key=value pairs',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Export as the command line says."""
    args = parse_args(argv)
    try:
        with usage_errors('export.py'):
            config = read_config(args.config, args.cfg_options)
            result = export_student(config, args.checkpoint, args.out)
    except ParityError as error:
        sys.exit(f'export.py: error: {error}')
    print(
        f'{result.weights} and {result.config}: {result.params:,} parameters; '
        f'largest difference to the supernet at scaler 0 in float64: '
        f'{result.largest_difference:.2e} on {result.num_images} '
        f'{result.images} images'
    )


if __name__ == '__main__':
    main()
