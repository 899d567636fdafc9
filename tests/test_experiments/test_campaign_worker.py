# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What a cell is trained with is what was planned, and its files stay."""

from __future__ import annotations

from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from reducenet_mm.experiments.campaign import worker
from reducenet_mm.experiments.campaign.campaign import (
    delete_checkpoints,
    ended_text,
)
from reducenet_mm.experiments.campaign.config import read_campaign
from reducenet_mm.experiments.campaign.crew import Settings
from reducenet_mm.experiments.campaign.plan import (
    Cell,
    plan_arms,
    plan_cells,
)
from reducenet_mm.experiments.campaign.worker import (
    Job,
    _numbers,
    planned_config,
)
from reducenet_mm.experiments.processes import exclusive
from reducenet_mm.experiments.records import (
    STARTED,
    read_marker,
    session_marker,
    write_marker,
)

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / 'configs' / 'reducenet' / 'digits'
CAMPAIGN = f"""
seeds = [3]
arms = dict(
    small=dict(config='small.py'),
    grown=dict(
        config='{DIGITS}/reducenet8-w16-e4_digits_teacher.py', epochs=2,
        needs=dict(load_from='small')),
    student=dict(
        config='{DIGITS}/reducenet8-w16-e4_digits_student.py', epochs=1,
        needs={{'model.teacher_ckpt': 'grown'}}),
)
"""
SMALL = f"_base_ = '{DIGITS}/plain8-w16_digits.py'\n"


@pytest.fixture
def cells(tmp_path: Path) -> dict[str, Cell]:
    """A chain of three cells, each of which starts from the one before."""
    (tmp_path / 'small.py').write_text(SMALL)
    (tmp_path / 'chain.py').write_text(CAMPAIGN)
    campaign = read_campaign(tmp_path / 'chain.py')
    planned = plan_arms(campaign)
    work_dir = tmp_path / 'work'
    return {
        cell.arm.name: cell for cell in plan_cells(campaign, planned, work_dir)
    }


def job_of(cell: Cell) -> Job:
    return Job(
        config=str(cell.arm.arm.config),
        options=cell.options,
        inputs=tuple(cell.needs),
        config_hash=cell.config_hash,
        folder=cell.folder,
        lock='lock',
        locks=cell.folder,
        digest=cell.hash,
        epochs=cell.arm.epochs,
        metric='accuracy/top1',
        test=True,
        threads=1,
    )


def test_a_cell_is_trained_with_the_planned_config(cells) -> None:
    cfg = planned_config(job_of(cells['student']))
    assert cfg.model.teacher_ckpt == str(cells['grown'].checkpoint)
    assert cfg.randomness.seed == 3
    assert cfg.train_cfg.max_epochs == 1


def test_a_config_edited_after_planning_is_refused(
    cells, tmp_path: Path
) -> None:
    job = job_of(cells['small'])
    assert planned_config(job).optim_wrapper.optimizer.lr != 0.5
    edit = 'optim_wrapper = dict(optimizer=dict(lr=0.5))\n'
    (tmp_path / 'small.py').write_text(SMALL + edit)
    with pytest.raises(RuntimeError, match=r'small\.py.* has changed since'):
        planned_config(job)


def test_a_cell_names_the_code_in_memory(
    cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a commit made since; the cell ends early, as it was edited."""
    later = dict(commit='later', dirty=False, packages={})
    monkeypatch.setattr(worker, 'code_version', lambda: later)
    (tmp_path / 'small.py').write_text(f'{SMALL}seed = 1\n')
    job = job_of(cells['small'])
    process = get_context('fork').Process(target=worker.work, args=(job,))
    process.start()
    process.join()
    assert process.exitcode == 1
    started = read_marker(cells['small'].folder, job.digest, STARTED)
    assert started is not None
    assert started['code'] == worker.CODE


def test_a_network_that_cannot_take_its_images_is_told_by_the_plan(
    tmp_path: Path,
) -> None:
    head = 'model = dict(head=dict(in_channels=3))\n'
    (tmp_path / 'small.py').write_text(SMALL + head)
    arms = "seeds = [3]\narms = dict(small=dict(config='small.py', epochs=1))"
    (tmp_path / 'one.py').write_text(arms)
    campaign = read_campaign(tmp_path / 'one.py')
    with pytest.raises(ValueError, match='model.head.fc, which is Linear'):
        plan_arms(campaign)


def test_what_may_have_to_be_trained_again_is_kept(
    cells, tmp_path: Path
) -> None:
    for cell in cells.values():
        cell.folder.mkdir(parents=True)
        cell.checkpoint.write_bytes(b'')
        write_marker(cell.folder, cell.hash, {}, STARTED)
    records = [
        dict(hash=cells[name].hash, status='finished', test={}, seed=3)
        for name in ('small', 'grown')
    ]
    locks = tmp_path / 'locks'
    delete_checkpoints(list(cells.values()), records, locks)
    assert all(cell.checkpoint.is_file() for cell in cells.values())
    records.append(dict(records[0], hash=cells['student'].hash))
    # What another configuration has begun there stays, and what goes on.
    write_marker(cells['grown'].folder, 'another', {}, STARTED)
    with exclusive(locks, 0, cells['small'].work_lock):
        delete_checkpoints(list(cells.values()), records, locks)
    assert {n for n, cell in cells.items() if cell.checkpoint.exists()} == {
        'grown',
        'small',
    }
    write_marker(cells['grown'].folder, cells['grown'].hash, {}, STARTED)
    delete_checkpoints(list(cells.values()), records, locks)
    assert not any(cell.checkpoint.exists() for cell in cells.values())


def test_a_session_says_whose_code_began() -> None:
    old, new = dict(commit='a'), dict(commit='b')
    first = session_marker(None, old)
    assert first == dict(sessions=1, code=old)
    assert session_marker(first, old) == dict(sessions=2, code=old)
    second = session_marker(first, new)
    assert second == dict(sessions=2, code=new, begun_by=old)
    third = session_marker(second, dict(commit='c'))
    assert third['begun_by'] == old and third['sessions'] == 3
    # Left by a version that did not say whose code it was.
    unknown = dict(sessions=5, code=new, begun_by=None)
    assert session_marker(dict(sessions=4), new) == unknown


@pytest.mark.parametrize(
    ('test', 'val', 'said'),
    [
        (None, None, '3 s'),
        (None, 91.5, 'val 91.50 %, 3 s; small so far 91.50 % (n = 1)'),
        (90.25, None, 'test 90.25 %, 3 s'),
    ],
)
def test_a_cell_may_end_without_a_test_or_a_validation(
    cells: dict[str, Cell], test: float | None, val: float | None, said: str
) -> None:
    small = cells['small']
    record = dict(hash=small.hash, status='finished', val=val, seconds=3.2)
    record['test'] = None if test is None else {'accuracy/top1': test}
    settings = Settings('accuracy/top1', test=False)
    text = ended_text(list(cells.values()), settings, small, record, [record])
    assert text == f'[1/3] small seed 3: {said}'


def test_metrics_may_be_numbers_of_numpy() -> None:
    metrics = {
        'accuracy/top1': np.float32(24.5),
        'mIoU': torch.tensor(0.5),
        'worst': 'seven',
        'diverged': float('nan'),
    }
    found = _numbers(metrics, 'accuracy/top1')
    assert found == {'accuracy/top1': 24.5, 'mIoU': 0.5}
    with pytest.raises(RuntimeError, match="no finite 'diverged'"):
        _numbers(metrics, 'diverged')


def test_no_two_campaigns_share_a_folder() -> None:
    paths = sorted((ROOT / 'configs/experiments').glob('[!_]*/*.py'))
    parts = {'teacher', 'plain', 'wide'}
    campaigns = [path for path in paths if path.stem not in parts]
    names = [read_campaign(path).name for path in campaigns]
    assert len(names) >= 4 and len(set(names)) == len(names)
    assert 'fashion-mnist-narrow' in names and 'digits-few-means' in names
