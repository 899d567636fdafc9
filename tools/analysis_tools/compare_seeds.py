# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Compare the reports of one pipeline that ran with several seeds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reducenet_mm.engine.launch import (
    add_json_argument,
    check_json,
    usage_errors,
    write_json,
)
from reducenet_mm.experiments.pipeline.seed_comparison import (
    READ,
    compare_seeds,
    seeds_markdown,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='compare_seeds.py',
        description='Compare the students of a pipeline with its teachers '
        'and controls over several seeds: a table of all of them and paired '
        'intervals of 95 percent, as Markdown. Reads reports only.',
    )
    parser.add_argument(
        'reports',
        nargs='+',
        metavar='REPORT',
        help='a report.json, or a work directory of tools/reduce.py',
    )
    add_json_argument(parser)
    return parser.parse_args(argv)


def read_report(path: str) -> dict[str, Any]:
    """Read a report of tools/reduce.py.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is none.
    """
    file = Path(path)
    file = file / 'report.json' if file.is_dir() else file
    if not file.is_file():
        raise FileNotFoundError(
            f'{file} is not there. Give a report.json of tools/reduce.py, '
            'which it writes at its end, or its work directory.'
        )
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
    except ValueError:
        content = None
    if not isinstance(content, dict) or not READ <= content.keys():
        raise ValueError(f'{file} is no whole report.json of tools/reduce.py.')
    return content


def main(argv: Sequence[str] | None = None) -> None:
    """Read, compare, print, write."""
    args = parse_args(argv)
    with usage_errors('compare_seeds.py'):
        check_json(args)
        reports = [read_report(path) for path in args.reports]
        content = compare_seeds(reports)
    print(seeds_markdown(content))
    write_json(args, 'compare_seeds.py', content)


if __name__ == '__main__':
    main()
