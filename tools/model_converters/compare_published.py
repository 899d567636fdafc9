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
from typing import Any

from reducenet_mm.engine.launch import (
    add_json_argument,
    check_json,
    usage_errors,
    write_json,
)
from reducenet_mm.experiments.code_version import versions
from reducenet_mm.experiments.published_parity import (
    compare_published,
    load_code,
)
from reducenet_mm.files import sha256_file
from reducenet_mm.plain_numbers import checked_int

PROG = 'compare_published.py'
TOLERANCE = 1e-9  # in double precision


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description='Run published checkpoints of ohmydroid/reducenet by '
        'their own code and, converted, by ours, and compare the logits, in '
        f'double precision. If any differ by more than {TOLERANCE:g} of the '
        'largest, the status is 1 and nothing is written.',
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
        help='folder of folders of images of one size, one for each class in '
        'alphabetical order; default: random inputs only',
    )
    parser.add_argument(
        '--every',
        metavar='N',
        type=int,
        default=1,
        help='take only every N-th image, as double precision is slow; '
        'default: 1',
    )
    add_json_argument(parser)
    return parser.parse_args(argv)


def _apart(one: Mapping[str, Any]) -> list[float]:
    return list(one['max_difference'].values())


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Return what was found as a Markdown table."""
    lines = [
        '| checkpoint | scaler | largest difference, relative to the largest '
        'logit | '
        'accuracy by their code, % | by ours, % |',
        '|---|---:|---:|---:|---:|',
    ]
    for one in found:
        percent = [
            f'{100 * one["right"][by] / one["images"]:.2f}'
            if 'images' in one
            else '-'
            for by in ('published', 'ours')
        ]
        scaler = f'{one["network"]["scaler"]:g}'
        cells = [scaler, f'{max(_apart(one)):.1e}', *percent]
        lines.append(f'| `{one["checkpoint"]}` | {" | ".join(cells)} |')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Compare as the command line says."""
    args = parse_args(argv)
    with usage_errors(PROG):
        check_json(args)
        checked_int('--every', args.every, 1)
        code = load_code(args.code)
        found = [
            compare_published(code, path, args.images, args.every)
            for path in args.checkpoints
        ]
    rows = table(found)
    print(rows)
    apart = [
        f'{one["checkpoint"]} by {_apart(one)}'
        for one in found
        if not all(value <= TOLERANCE for value in _apart(one))  # nor is NaN
    ]
    if apart:
        sys.exit(f'{PROG}: outputs differ: {", ".join(apart)}')
    content = dict(
        code_sha256=sha256_file(args.code),
        versions=versions(),
        compared=found,
        table=rows,
    )
    write_json(args, PROG, content)


if __name__ == '__main__':
    main()
