# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Tools in processes that need not import everything first.

They are real processes, forked from one that has imported PyTorch and the
toolboxes and done nothing else: that would be most of the time of a small
training.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TOOLS = Path(__file__).parents[2] / 'tools'
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['reducenet_mm', 'mmrazor', __name__])


def run_forked(tool: str, *arguments: object) -> None:
    """Run a tool to its end in a process of its own.

    Args:
        tool: Its name, such as ``'train'``.
        arguments: Of its command line.

    Raises:
        AssertionError: If it fails, with what it has printed.
    """
    run_ranks(tool, arguments, [{}])


def run_two_ranks(tool: str, *arguments: object, port: str) -> None:
    """Run a tool in two processes, which train or test together.

    What torchrun, called by ``tools/dist_train.sh``, does for them.

    Args:
        tool: As in :func:`run_forked`, likewise ``arguments``.
        arguments: Of its command line, but for ``--launcher``.
        port: A free TCP port.
    """
    common = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, WORLD_SIZE='2')
    ranks = [
        dict(common, RANK=rank, LOCAL_RANK=rank, LOCAL_WORLD_SIZE='2')
        for rank in '01'
    ]
    run_ranks(tool, [*arguments, '--launcher=pytorch'], ranks)


def run_ranks(
    tool: str, arguments: Sequence[object], ranks: Sequence[dict[str, str]]
) -> None:
    """Run a tool in one process for each environment."""
    argv = [str(TOOLS / f'{tool}.py'), *map(str, arguments)]
    with tempfile.NamedTemporaryFile('r') as output:
        children = [
            CONTEXT.Process(target=_become, args=(argv, env, output.name))
            for env in ranks
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
        codes = [child.exitcode for child in children]
        assert codes == [0] * len(ranks), output.read()


def _become(argv: list[str], env: dict[str, str], output: str) -> None:
    """Be the tool, as if just started, and print to a file."""
    file = open(output, 'a', buffering=1)
    for descriptor in (1, 2):
        os.dup2(file.fileno(), descriptor)
    sys.stdout = sys.stderr = file
    os.environ.update(env)
    sys.argv = argv
    runpy.run_path(argv[0], run_name='__main__')
