# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Train what a config describes: a teacher, a student or a plain network.

The flags are those of MMPretrain's tool. Wrong input is reported in one
line before anything is written, wrong data as soon as it has been read.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

from reducenet_mm.engine import launch, preflight
from reducenet_mm.engine.training import SECTIONS, begin_log, settle_training

LOADERS = ('train_dataloader', 'val_dataloader')


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog='train.py', description='Train a model.'
    )
    launch.add_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from a checkpoint file, or, without one, from the '
        'newest intact checkpoint in the work dir if there is any',
    )
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision (GPU)'
    )
    parser.add_argument(
        '--no-validate',
        action='store_true',
        help='do not evaluate during training',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the actual batch size over '
        'auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='start the worker processes of the dataloaders every epoch',
    )
    return parser


def apply_args(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the training tool's own arguments, in place.

    Raises:
        ValueError: If one does not go with the config or the machine.
    """
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    wrapper = cfg.optim_wrapper.get('type')
    kind = wrapper  # new-style configs name classes
    if isinstance(wrapper, str):
        kind = OPTIM_WRAPPERS.get(wrapper)
    if kind is AmpOptimWrapper and get_device() == 'cpu':
        raise ValueError(
            'mixed precision (--amp, optim_wrapper.type='
            f'{wrapper!r}) needs a GPU, and this machine has none. Leave '
            'it out.'
        )
    if args.auto_scale_lr:
        if cfg.get('auto_scale_lr') is None:
            raise ValueError(
                '--auto-scale-lr needs auto_scale_lr.base_batch_size in the '
                'config: the total batch size that its learning rate is for.'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume == '':
        raise ValueError(
            "--resume '' names no checkpoint. Leave the value out to search "
            'the work dir.'
        )
    if args.resume is not None:
        cfg.resume = True
        if args.resume != 'auto':
            cfg.load_from = args.resume
    launch.set_loader_defaults(
        cfg,
        (*LOADERS, 'test_dataloader'),
        pin_memory=not args.no_pin_memory,
        persistent_workers=not args.no_persistent_workers,
    )


def prepare(
    args: argparse.Namespace, say: Callable[[str], Any] = lambda message: None
) -> Config:
    """Turn arguments into a config that has passed every check.

    Args:
        args: The command line.
        say: Is told what belongs into the run's log.
    """
    cfg = launch.load_config(args)
    preflight.check_sections(cfg, SECTIONS)
    apply_args(cfg, args)
    settle_training(cfg, LOADERS, say, search=args.resume == 'auto')
    return cfg


def train(cfg: Config, notes: Sequence[str]) -> None:
    """Train, with ``notes`` in the run's log."""
    runner = launch.build_runner(cfg)
    begin_log(runner, notes)
    if not cfg.get('resume'):  # a resumed training has seen them all
        loader = runner.train_dataloader  # built now, and only once
        with launch.usage_errors('train.py'):
            preflight.check_data(runner.model, loader)
    runner.train()


def main(argv: Sequence[str] | None = None) -> None:
    """Check everything, then train."""
    args = launch.parse_args(build_parser(), argv)
    notes: list[str] = []
    with launch.usage_errors('train.py'):
        cfg = prepare(args, notes.append)
        launch.join_processes(cfg)
    train(cfg, notes)
    launch.leave_processes()


if __name__ == '__main__':
    main()
