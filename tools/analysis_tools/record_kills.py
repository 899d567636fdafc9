# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Kill trainings in every mode by kill_test.py; keep the results.

A mode is a config in ``tests/test_tools/kill_modes``. One that starts from
another's checkpoint names that mode's reference, or a file in it
(``model.teacher_ckpt='./work_dirs/kills/<mode>/reference'``, likewise
``model.student_init`` and ``load_from``), and comes after it. Run in the root
of the repository, once more if it was interrupted. Names of modes let two
processes share the work, once those that others start from are recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from reducenet_mm.engine.checkpointing import newest_checkpoint
from reducenet_mm.engine.launch import usage_errors
from reducenet_mm.experiments.code_version import code_version

MODES = Path('tests/test_tools/kill_modes')
WORK_DIR = Path('work_dirs/kills')
KILL_TEST = Path(__file__).with_name('kill_test.py')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='record_kills.py',
        description='Kill and resume trainings in every mode and write '
        'results. A mode whose result was made by the commit that is checked '
        'out, without changes, is left out.',
    )
    parser.add_argument(
        'modes',
        nargs='*',
        help=f'names of configs in {MODES}; default: all of them',
    )
    parser.add_argument('--out-dir', default='docs/results/kills')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument(
        '--again', action='store_true', help='leave no mode out'
    )
    return parser.parse_args(argv)


def find_modes(chosen: Sequence[str]) -> list[str]:
    """Return the names of the chosen modes, or of all.

    Raises:
        ValueError: If one is not there.
    """
    known = sorted(path.stem for path in MODES.glob('*.py'))
    unknown = sorted(set(chosen) - set(known))
    if unknown or not known:
        raise ValueError(
            f'no modes {unknown or ""} in {MODES}, which has {known}. Give '
            'some of these, or none for all, in the root of the repository.'
        )
    return list(chosen) or known


def needs(mode: str) -> list[str]:
    """Return the modes whose references a mode starts from."""
    cfg = Config.fromfile(MODES / f'{mode}.py')
    paths = map(cfg.model.get, ('teacher_ckpt', 'student_init'))
    used = [path for path in (*paths, cfg.get('load_from')) if path]
    return [Path(path).relative_to(WORK_DIR).parts[0] for path in used]


def is_current(file: Path, commit: str | None) -> bool:
    """Whether a result is complete and made by ``commit``, unchanged."""
    if commit is None or not file.is_file():
        return False
    result = json.loads(file.read_text())
    return (
        result.get('code', {}).get('commit') == commit
        and not result['code']['dirty']
        and result['identical']
        and result['kills_by_kind'] == result['kills_wanted']
    )


def has_reference(mode: str, file: Path, commit: str | None) -> bool:
    """Whether what others start from is there, and of this code.

    Args:
        mode: Name of the mode.
        file: Its result.
        commit: As in :func:`is_current`; None takes any reference.
    """
    if newest_checkpoint(WORK_DIR / mode / 'reference') is None:
        return False
    return commit is None or is_current(file, commit)


def in_order(
    todo: Sequence[str],
    needed: Mapping[str, list[str]],
    is_there: Callable[[str], bool],
) -> list[str]:
    """Add what modes need and is not there; put it before them.

    Args:
        todo: Names of modes.
        needed: Names of the modes that each of them needs; those need none.
        is_there: Tells of a mode whether another can start from it.
    """
    missing = {
        other for mode in todo for other in needed[mode] if not is_there(other)
    }
    everything = dict.fromkeys([*sorted(missing), *todo])
    return sorted(everything, key=lambda mode: bool(needed.get(mode)))


def record(mode: str, seed: int, out: Path) -> bool:
    """Test a mode; return whether all is as it should be.

    Moments differ between modes, and stay when another one is added.
    """
    work_dir = WORK_DIR / mode
    shutil.rmtree(work_dir, ignore_errors=True)  # of an earlier record
    draw = random.Random(f'{seed} {mode}').randrange(2**31)
    done = subprocess.run(
        [
            *(sys.executable, str(KILL_TEST), str(MODES / f'{mode}.py')),
            *('--seed', str(draw), '--work-dir', str(work_dir)),
            *('--out', str(out)),
        ],
        # The networks are tiny; kills shall not wait for threads.
        env={'OMP_NUM_THREADS': '1', **os.environ},
        check=False,
    )
    return done.returncode == 0


def main(argv: Sequence[str] | None = None) -> None:
    """Record all modes; exit with status 1 if one of them fails."""
    args = parse_args(argv)
    out_dir = Path(args.out_dir)
    with usage_errors('record_kills.py'):
        modes = find_modes(args.modes)
    code = code_version()
    commit = None if args.again or code['dirty'] else code['commit']
    needed = {mode: needs(mode) for mode in modes}
    todo = [m for m in modes if not is_current(out_dir / f'{m}.json', commit)]
    order = in_order(
        todo,
        needed,
        lambda mode: has_reference(mode, out_dir / f'{mode}.json', commit),
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    failed = []
    for mode in order:
        print(f'--- {mode}', flush=True)
        if not record(mode, args.seed, out_dir / f'{mode}.json'):
            failed.append(mode)
    kept = len(modes) - len(todo)
    done = len(order) - len(failed)
    print(f'{done} modes recorded, {kept} left as they were.')
    if failed:
        sys.exit(f'record_kills.py: error: {", ".join(failed)} failed.')


if __name__ == '__main__':
    main()
