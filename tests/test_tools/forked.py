# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Tools in processes that need not import everything first.

They are real processes, forked from this one: starting Python and importing
PyTorch and the toolboxes would be most of the time of a small training.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

TOOLS = Path(__file__).parents[2] / 'tools'


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
    children = []
    with tempfile.TemporaryFile('w+') as output:
        for env in ranks:
            child = os.fork()
            if not child:
                _become(argv, env, output)
            children.append(child)
        codes = [os.waitpid(child, 0)[1] for child in children]
        output.seek(0)
        assert codes == [0] * len(ranks), output.read()


def _become(argv: list[str], env: dict[str, str], output: IO[str]) -> None:
    """Be the tool, as if just started; never return."""
    code: object = 1
    try:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
        sys.stdout = sys.stderr = open(1, 'w', closefd=False)
        for kind in (DefaultScope, MessageHub, MMLogger, Visualizer):
            kind._instance_dict.clear()
        os.environ.update(env)
        sys.argv = argv
        runpy.run_path(argv[0], run_name='__main__')
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)
