# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Train teacher, student and controls; export the student; report."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from reducenet_mm.engine.cfg_options import CfgOptions
from reducenet_mm.engine.launch import usage_errors
from reducenet_mm.experiments.pipeline.config import read_pipeline
from reducenet_mm.experiments.pipeline.pipeline import run_pipeline
from reducenet_mm.experiments.pipeline.plan import plan_runs
from reducenet_mm.experiments.processes import RunFailed, WorkDirBusy
from reducenet_mm.export import ParityError
from reducenet_mm.files import check_folder

INTERRUPTED = 130


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='reduce.py',
        description='Run the stages and controls of a pipeline config one '
        'after the other (if the config sets `until`: until the student is '
        'saturated), export the student and write report.html, report.md '
        'and report.json. Finished runs are skipped and '
        'interrupted ones continued: start the same command again after '
        'Ctrl-C, a kill or a power cut.',
    )
    parser.add_argument('config', help='path of the pipeline config')
    parser.add_argument(
        '--work-dir',
        help='folder of all results; default: ./work_dirs/<name of the '
        'pipeline config>',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='settings that replace those of the pipeline config, such as '
        'seed=1, stages.0.epochs=10 or, for every run, '
        'cfg_options.train_dataloader.batch_size=32',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Do whatever of the pipeline is not done yet."""
    args = parse_args(argv)
    default = Path('work_dirs') / Path(args.config).stem
    work_dir = Path(args.work_dir or default)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with usage_errors('reduce.py'):
            pipeline = read_pipeline(args.config, args.cfg_options)
            check_folder(work_dir)
            runs = plan_runs(pipeline, work_dir)
        run_pipeline(pipeline, runs, work_dir, Path(__file__).parent)
    except (ParityError, RunFailed, WorkDirBusy) as error:
        sys.exit(f'reduce.py: error: {error}')
    except KeyboardInterrupt:
        sys.stderr.write(
            'reduce.py: interrupted; start the same command again to '
            'continue.\n'
        )
        sys.exit(INTERRUPTED)


if __name__ == '__main__':
    main()
