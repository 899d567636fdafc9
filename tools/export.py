# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Write the student of a checkpoint as files of an ordinary network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from reducenet_mm.engine import launch
from reducenet_mm.engine.cfg_options import CfgOptions
from reducenet_mm.engine.config_file import read_config
from reducenet_mm.export import (
    ExportOptions,
    ExportResult,
    ParityError,
    export_student,
)
from reducenet_mm.export.parity import SUPERNET


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='export.py',
        description='Write the student of a teacher or distillation '
        'checkpoint into DIR: student.pth (weights of an ordinary network, '
        'without any branch), student.py (its config for MMPretrain, or for '
        'the toolbox of a detector or segmentor, which is all that it '
        'needs) and parity.json. Each form is checked first '
        'on real and on random images: it must answer as the supernet does '
        'at scaler 0; otherwise nothing is written. Weights load strictly '
        "into a network of its toolbox's own (depths 18 and 34 of the block "
        'postsum with ReLU; grafted networks), or into the class in '
        'student_backbone.py, written beside them.',
    )
    parser.add_argument(
        'config',
        help='config of the training, with a ReduceNet or a GraftedBackbone',
    )
    parser.add_argument('checkpoint', help='checkpoint of the training')
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder to write to'
    )
    parser.add_argument(
        '--fold-bn',
        action='store_true',
        help='also write student_folded.pth and student_folded.py, in which '
        'every batch norm is folded into the convolution before it; for a '
        'ReduceNet only: of a GraftedBackbone, --onnx and --int8 fold',
    )
    parser.add_argument(
        '--onnx',
        action='store_true',
        help='also write student.onnx, for any batch size, but with height '
        'and width fixed to those of the validation images (without them 224 '
        'each, or 32 for the CIFAR layout); input: preprocessed images '
        '(N, C, H, W), output: logits (N, classes); its metadata say how to '
        'prepare images',
    )
    parser.add_argument(
        '--int8',
        action='store_true',
        help='also write student_int8.onnx, quantised by onnxruntime and '
        'calibrated on training images; implies --onnx',
    )
    parser.add_argument(
        '--calibration-images',
        type=launch.positive,
        metavar='N',
        help='how many training images calibrate --int8; default: '
        f'{ExportOptions.num_calibration}',
    )
    parser.add_argument(
        '--max-images',
        type=positive_or_all,
        default=ExportOptions.max_validation,
        metavar='N',
        help='measure the accuracy of each form on N validation images, drawn '
        'from all of them, the same ones each time, on the CPU; "all" takes '
        'all of them, which is hours for ImageNet; default: %(default)s',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        help='override settings of the config, as key=value pairs',
    )
    args = parser.parse_args(argv)
    if args.calibration_images is None:
        args.calibration_images = ExportOptions.num_calibration
    elif not args.int8:
        parser.error('--calibration-images needs --int8')
    return args


def positive_or_all(text: str) -> int | None:
    """Read an integer >= 1, or ``all`` as None, from the command line."""
    return None if text == 'all' else launch.positive(text)


def print_result(result: ExportResult) -> None:
    """Print what was written, and how far it is from the supernet."""
    kinds = list(result.images)
    table = Table(title=f'Largest relative difference to the {SUPERNET}')
    for heading in ('form', 'precision'):
        table.add_column(heading, no_wrap=True)
    for kind in kinds:
        table.add_column(kind, justify='right')
    table.add_column('tolerance', justify='right')
    table.add_column('accuracy, %', justify='right')
    table.add_row(
        SUPERNET,
        'float32',
        *[''] * (len(kinds) + 1),
        accuracy_of(result, SUPERNET),
    )
    for one in result.comparisons:
        table.add_row(
            one.form,
            one.precision,
            *[f'{one.differences[kind]:.1e}' for kind in kinds],
            '-' if one.tolerance is None else f'{one.tolerance:.0e}',
            accuracy_of(result, one.form),
        )
    Console().print(table)
    compared = ' and '.join(
        f'{count} {kind} images' for kind, count in result.images.items()
    )
    print(f'compared on {compared}')
    if result.accuracy:
        print(
            f'accuracy: top-1 on {result.num_validation:,} of '
            f'{result.all_validation:,} validation images (--max-images)'
        )
    elif 'validation' in result.images:
        print('accuracy: not measured, the images have no single label')
    else:
        print('accuracy: not measured, there are no validation images here')
    for loader, reason in result.missing.items():
        print(f'{loader}: no images ({reason})')
    names = ', '.join(result.files)
    folder = result.weights.parent
    print(f'{result.params:,} parameters; written to {folder}: {names}')


def accuracy_of(result: ExportResult, name: str) -> str:
    """Return a network's accuracy as a cell of the table."""
    value = result.accuracy.get(name)
    return '' if value is None else f'{value:.2f}'


def main(argv: Sequence[str] | None = None) -> None:
    """Export as the command line says."""
    args = parse_args(argv)
    options = ExportOptions(
        fold=args.fold_bn,
        onnx=args.onnx,
        int8=args.int8,
        accuracy=True,
        max_validation=args.max_images,
        num_calibration=args.calibration_images,
    )
    try:
        with launch.usage_errors('export.py'):
            config = read_config(args.config, args.cfg_options)
            result = export_student(
                config,
                args.checkpoint,
                args.out,
                options,
                Console(stderr=True),
            )
    except (ImportError, OSError, ParityError) as error:
        sys.exit(f'export.py: error: {error}')
    print_result(result)


if __name__ == '__main__':
    main()
