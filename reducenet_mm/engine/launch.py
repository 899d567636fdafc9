# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What the training and the testing tool share: from arguments to Runner."""

from __future__ import annotations

import argparse
import os
import os.path as osp
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from reducenet_mm import compat, files

from .cfg_options import CfgOptions
from .config_file import read_config
from .toolbox import CLASSIFIERS, scope_of

USAGE_STATUS = 2
"""Exit status of a tool whose input is wrong, as argparse has it."""

_PATH_ERRORS = (
    FileNotFoundError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
"""What a path of the user's is the reason of; a full disk is none of it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every tool with a config has."""
    parser.add_argument('config', help='path of the config file')
    parser.add_argument(
        '--work-dir',
        help='folder of logs and results; default: the config\'s "work_dir", '
        'or else ./work_dirs/<name of the config file>',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='settings that replace those of the config file; nested keys '
        'with dots, lists as key="[a,b]" or key=a,b, without white space',
    )
    parser.add_argument(
        '--no-pin-memory',
        action='store_true',
        help='do not pin the memory of the dataloaders',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what has started several processes, if anything',
    )
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help='set by old launchers only; LOCAL_RANK has priority',
    )


def positive(text: str) -> int:
    """Read an integer >= 1 from the command line.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f'must be an integer of at least 1, got {text!r}'
        )
    return int(text)


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument of every tool that measures something.

    For :func:`check_json` before it does, and :func:`write_json` afterwards.
    """
    parser.add_argument(
        '--json', '--out', metavar='FILE', help='JSON file to write'
    )


def check_json(args: argparse.Namespace) -> None:
    """Raise ``OSError`` if there is a file to write and it cannot be."""
    if args.json is not None:
        files.check_file(args.json)


def write_json(args: argparse.Namespace, prog: str, result: Any) -> None:
    """Write a result, if that is wanted, or exit with one line."""
    if args.json is None:
        return
    try:
        files.write_json(args.json, result)
    except OSError as error:
        sys.exit(f'{prog}: error: {error}')


def parse_args(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse the command line and make LOCAL_RANK known, as MMEngine needs."""
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


@contextmanager
def usage_errors(prog: str) -> Iterator[None]:
    """Turn an error of the user's input into one line and exit status 2.

    Only for checks, nearly all of them before the Runner; any other error
    keeps its traceback.
    """
    try:
        yield
    except (ValueError, TypeError, *_PATH_ERRORS) as error:
        if _first_of_machine():
            message = ' '.join(str(error).split())
            sys.stderr.write(f'{prog}: error: {message}\n')
        raise SystemExit(USAGE_STATUS) from error


def _first_of_machine() -> bool:
    rank = os.environ.get('SLURM_LOCALID', os.environ.get('LOCAL_RANK', '0'))
    return rank == '0'


def load_config(args: argparse.Namespace) -> Config:
    """Read the config file and apply the arguments of :func:`add_arguments`.

    ``--cfg-options`` come first, so that what the tools do later sees them.

    Raises:
        FileNotFoundError: If the config file is not there.
        OSError: If the work directory is a file, or cannot be written to.
        ValueError: If it is not a config, or an option cannot be applied.
    """
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir')
    cfg.work_dir = cfg.work_dir or default_work_dir(args.config)
    files.check_folder(cfg.work_dir)
    return cfg


def default_work_dir(config: str) -> str:
    """Return ``./work_dirs/<name of the config file>``."""
    return osp.join('./work_dirs', osp.splitext(osp.basename(config))[0])


def set_loader_defaults(
    cfg: Config,
    fields: Sequence[str],
    *,
    pin_memory: bool = True,
    persistent_workers: bool = True,
) -> None:
    """Complete dataloaders in place; what the config says has priority.

    Args:
        cfg: The full config.
        fields: Top-level keys of dataloaders; one not set is passed over.
        pin_memory: False switches pinning off, whatever the config says.
        persistent_workers: Likewise. Without worker processes it is always
            off, since torch refuses it then.
    """
    classifies = scope_of(cfg) == CLASSIFIERS
    for field in fields:
        loader = cfg.get(field)
        if loader is None:
            continue
        loader.setdefault('pin_memory', get_device() != 'cpu')
        loader.setdefault('persistent_workers', True)
        if classifies:  # of other toolboxes, images may differ in size
            loader.setdefault('collate_fn', dict(type='default_collate'))
        if not pin_memory:
            loader.pin_memory = False
        if not (persistent_workers and loader.get('num_workers', 0)):
            loader.persistent_workers = False


def join_processes(cfg: Config) -> None:
    """Join the other processes where MMEngine cannot: without a GPU.

    The last step before the Runner; waits until all of them are here.

    Raises:
        ValueError: If ``cfg.launcher`` needs a GPU and there is none.
    """
    compat.setup_cpu_distributed(cfg, cfg.launcher)


def leave_processes() -> None:
    """Part from the processes joined by :func:`join_processes`, at the end."""
    compat.leave_cpu_distributed()


def build_runner(cfg: Config) -> Runner:
    """Build the Runner, the first thing that writes (``cfg.work_dir``)."""
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)
