# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Write ``configs/reducenet/metafile.yml`` and ``model-index.yml``.

From the committed reports of pipelines, what ``benchmark.py`` has written to
``docs/results/inference/<pipeline>.json`` if it is there, and the configs.
MMPretrain looks for an index in its own installation only. To have
``mmpretrain.list_models`` and ``get_model`` find ours, in a checkout:
``ModelHub.register_model_index('model-index.yml', config_prefix='.')``, with
``from mmpretrain.apis.model import ModelHub``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reducenet_mm.engine.launch import usage_errors
from reducenet_mm.experiments.metafile import metafiles
from reducenet_mm.files import write_atomically

ROOT = Path(__file__).parents[2]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='write_metafile.py',
        description='Write the model index out of committed results: run it '
        'again whenever one of them has been made anew.',
    )
    parser.add_argument(
        '--root',
        type=Path,
        default=ROOT,
        help='repository to read and to write; default: that of this file',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Read, write, say what was written."""
    args = parse_args(argv)
    with usage_errors('write_metafile.py'):
        files = metafiles(args.root)
    write_atomically(files)
    for path in files:
        print(path)


if __name__ == '__main__':
    main()
