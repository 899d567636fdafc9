# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Compare published checkpoints, run by their own code, with converted ones.

A checkpoint needs the code of its time. Those in the repository are of::

    git clone https://github.com/ohmydroid/reducenet
    git -C reducenet show 8859c26:models/reducenet.py > published.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reducenet_mm.engine.launch import usage_errors
from reducenet_mm.experiments.published_parity import (
    compare_published,
    load_code,
)
from reducenet_mm.experiments.results import versions
from reducenet_mm.files import check_folder, sha256_file, write_json

PROG = 'compare_published.py'
TOLERANCE = 1e-5


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description='Run published checkpoints of ohmydroid/reducenet by '
        'their own code and, converted, by ours, and compare the logits. The '
        f'status is 1 if any differ by more than {TOLERANCE:g}.',
    )
    parser.add_argument(
        'code',
        metavar='CODE',
        help='models/reducenet.py of the commit that wrote the checkpoints; '
        'it is run',
    )
    parser.add_argument('checkpoints', metavar='CHECKPOINT', nargs='+')
    parser.add_argument(
        '--images',
        metavar='FOLDER',
        help='real images of 32x32 in folders, one for each class in '
        'alphabetical order; default: random images only',
    )
    parser.add_argument('--out', metavar='FILE', help='JSON file to write')
    return parser.parse_args(argv)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Return what was found as a Markdown table."""
    lines = [
        '| checkpoint | scaler | largest difference of logits | '
        'accuracy by their code, % | by ours, % |',
        '|---|---:|---:|---:|---:|',
    ]
    for one in found:
        largest = max(one['max_difference'].values())
        top1 = [
            f'{one["top1"][by]:.2f}' if one['top1'] else '-'
            for by in ('published', 'ours')
        ]
        cells = [f'{one["network"]["scaler"]:g}', f'{largest:.1e}', *top1]
        lines.append(f'| `{one["checkpoint"]}` | {" | ".join(cells)} |')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Compare as the command line says."""
    args = parse_args(argv)
    with usage_errors(PROG):
        if args.out:
            check_folder(Path(args.out).parent)
        code = load_code(args.code)
        found = [
            compare_published(code, path, args.images)
            for path in args.checkpoints
        ]
        for one in found:
            print(
                f'{one["checkpoint"]}: {one["max_difference"]} {one["top1"]}'
            )
        if args.out:
            content = dict(
                code_sha256=sha256_file(args.code),
                versions=versions(),
                compared=found,
            )
            write_json(Path(args.out), content)
    largest = max(max(one['max_difference'].values()) for one in found)
    if not largest <= TOLERANCE:
        sys.exit(f'{PROG}: outputs differ by {largest:g}')


if __name__ == '__main__':
    main()
