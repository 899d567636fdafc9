# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Two processes that share a campaign from its start to its end."""

from __future__ import annotations

import re
from contextlib import ExitStack
from itertools import product
from types import SimpleNamespace

import pytest

from reducenet_mm.experiments.processes import exclusive

from .campaigns import DIGITS, cells, records, sessions, start, wait_for

CAMPAIGN = f"""
seeds = [0, 1]
cfg_options = dict(
    train_dataloader=dict(batch_size=256), train_cfg=dict(val_interval=1))
arms = dict(
    teacher=dict(
        config='{DIGITS}/reducenet8-w16-e4_digits_teacher.py', epochs=1),
    plain=dict(config='{DIGITS}/plain8-w16_digits.py', epochs=1),
    soft=dict(
        config='{DIGITS}/reducenet8-w16-e4_digits_student.py', epochs=1,
        needs={{'model.teacher_ckpt': 'teacher'}}),
)
"""
CELLS = sorted(product(('plain', 'soft', 'teacher'), (0, 1)))


@pytest.fixture(scope='module')
def shared(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The campaign, by two processes that begin at the same moment."""
    folder = tmp_path_factory.mktemp('shared')
    source, work_dir = folder / 'tiny.py', folder / 'work'
    source.write_text(CAMPAIGN)
    logs = [folder / 'one.log', folder / 'other.log']
    with ExitStack() as claims:
        for arm, seed in CELLS:  # nobody gets one before both are there
            claim = exclusive(
                work_dir / 'locks', name=f'{arm}-seed{seed}.claim'
            )
            claims.enter_context(claim)
        crews = [start(source, work_dir, log=log.name) for log in logs]
        for crew, log in zip(crews, logs, strict=True):
            wait_for(lambda log=log: 'Plan: 3' in log.read_text(), crew)
        assert not sessions(work_dir)
    statuses = [crew.wait(300) for crew in crews]
    return SimpleNamespace(
        work_dir=work_dir,
        statuses=statuses,
        outputs=[log.read_text() for log in logs],
    )


def test_each_cell_is_trained_and_recorded_once(
    shared: SimpleNamespace,
) -> None:
    assert shared.statuses == [0, 0]
    found = records(shared.work_dir)
    assert sorted(cells(found, 'finished')) == CELLS
    assert len(found) == len(CELLS)
    assert {record['sessions'] for record in found} == {1}
    # No folder of another run, set aside or not, is beside these.
    assert len(list(shared.work_dir.glob('runs/*/*'))) == len(CELLS)
    assert sessions(shared.work_dir) == dict.fromkeys(CELLS, 1)
    for log in shared.work_dir.glob('runs/*/*/console.log'):
        assert log.read_text().count('Saving checkpoint at 1 epochs') == 1


def test_both_have_trained_and_what_one_did_the_other_did_not(
    shared: SimpleNamespace,
) -> None:
    done = [
        re.findall(r'\[\d/6\] (\w+) seed (\d): test', output)
        for output in shared.outputs
    ]
    assert all(done)
    together = [(arm, int(seed)) for arm, seed in sum(done, [])]
    assert sorted(together) == CELLS
