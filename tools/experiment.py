# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Run a campaign, arms times seeds, and report what can be concluded."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from reducenet_mm.engine.cfg_options import CfgOptions
from reducenet_mm.engine.launch import usage_errors
from reducenet_mm.experiments.campaign.campaign import (
    choose_cells,
    report_campaign,
    run_campaign,
)
from reducenet_mm.experiments.campaign.config import read_campaign
from reducenet_mm.experiments.campaign.crew import Settings, start_server
from reducenet_mm.experiments.campaign.ledger import RESULTS, Ledger
from reducenet_mm.experiments.campaign.plan import plan_arms, plan_cells
from reducenet_mm.experiments.processes import WorkDirBusy
from reducenet_mm.files import check_folder
from reducenet_mm.plain_numbers import checked_int

INTERRUPTED = 130


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='experiment.py',
        description='Train every arm of a campaign config with every seed, '
        'test each network once and write report.md, report.json, '
        'campaign.svg and results.jsonl. Finished cells are skipped, '
        'interrupted ones continued, failed ones tried again: start the '
        'same command again, or several at the same time.',
    )
    parser.add_argument('config', help='path of the campaign config')
    parser.add_argument(
        '--work-dir',
        help='folder of all results; default: ./work_dirs/<folder of the '
        'campaign config>-<its name>',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='settings that replace those of the campaign config, such as '
        'arms.plain.epochs=10 or, for every arm, '
        'cfg_options.train_dataloader.batch_size=32',
    )
    parser.add_argument(
        '--seeds', nargs='+', type=int, help='run only these seeds'
    )
    parser.add_argument(
        '--arms',
        nargs='+',
        help='run only these arms and those that they need',
    )
    parser.add_argument(
        '--processes',
        type=int,
        default=1,
        help='cells to train at the same time; default: 1',
    )
    parser.add_argument(
        '--report-only',
        action='store_true',
        help='train nothing, report what is there',
    )
    parser.add_argument(
        '--no-test',
        action='store_true',
        help='leave the test set alone and compare validation accuracy, to '
        'choose settings by',
    )
    parser.add_argument(
        '--keep-checkpoints',
        action='store_true',
        help='keep all last checkpoints; default: those of cells that no '
        'cell waits for are deleted at the end',
    )
    parser.add_argument(
        '--keep-images',
        action='store_true',
        help='decode each training image once in each loader process of a '
        'cell and keep it in memory; results stay the same',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Do whatever of the campaign is not done yet."""
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with usage_errors('experiment.py'):
            campaign = read_campaign(args.config, args.cfg_options)
            work_dir = Path(args.work_dir or f'work_dirs/{campaign.name}')
            check_folder(work_dir)
            checked_int('--processes', args.processes, 1)
            settings = Settings(
                campaign.metric,
                campaign.threads,
                args.processes,
                not args.no_test,
                args.keep_images,
            )
            if not args.report_only:
                start_server()
            tested = not (args.no_test or args.report_only)
            planned = plan_arms(campaign, tested=tested)
            cells = plan_cells(campaign, planned, work_dir)
            chosen = choose_cells(campaign, cells, args.arms, args.seeds)
            Ledger(work_dir / RESULTS).read()  # a line may be no record
        if args.report_only:
            report_campaign(campaign, planned, cells, work_dir, settings)
            return
        failed = run_campaign(
            campaign,
            planned,
            cells,
            chosen,
            work_dir,
            settings,
            keep_checkpoints=args.keep_checkpoints,
        )
    except WorkDirBusy as error:
        sys.exit(f'experiment.py: error: {error}')
    except KeyboardInterrupt:
        sys.stderr.write(
            'experiment.py: interrupted; start the same command again to '
            'continue.\n'
        )
        sys.exit(INTERRUPTED)
    if failed:
        sys.exit(
            f'experiment.py: {len(failed)} cell(s) failed: '
            f'{", ".join(failed)}. See report.md; the same command tries '
            'them again.'
        )


if __name__ == '__main__':
    main()
