# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A whole campaign, for real: shared, killed, taken over, and its report.

One campaign of a few epochs on the digits serves most tests. One process
trains a cell of it and is stopped; a second one does everything else and
waits; the first is killed, and the second takes its cell over.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reducenet_mm.experiments.estimates import estimate

from .campaigns import DIGITS, cells, records, sessions, start, wait_for

CAMPAIGN = f"""
seeds = [0, 1]
cfg_options = dict(
    train_dataloader=dict(batch_size=128),
    train_cfg=dict(val_interval=1),
    default_hooks=dict(checkpoint=dict(interval=1)))
arms = dict(
    plain_matched=dict(config='{DIGITS}/plain8-w16_digits.py', match='soft'),
    teacher=dict(
        config='{DIGITS}/reducenet8-w16-e4_digits_teacher.py', epochs=2),
    soft=dict(
        config='{DIGITS}/reducenet8-w16-e4_digits_student.py', epochs=1,
        needs={{'model.teacher_ckpt': 'teacher'}}, control='plain_matched'),
    broken=dict(
        config='{DIGITS}/plain8-w16_digits.py', epochs=1,
        cfg_options={{'train_dataloader.num_workers': -1}}),
    blocked=dict(
        config='{DIGITS}/reducenet8-w16-e4_digits_student.py', epochs=1,
        needs={{'model.teacher_ckpt': 'teacher', 'load_from': 'broken'}}),
)
regime = dict(control='plain_matched', teacher='teacher')
"""
GOOD = {
    (arm, seed)
    for arm in ('plain_matched', 'teacher', 'soft')
    for seed in (0, 1)
}


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A campaign that two processes have shared; one was killed."""
    folder = tmp_path_factory.mktemp('campaign')
    source, work_dir = folder / 'tiny.py', folder / 'work'
    source.write_text(CAMPAIGN)
    first = start(source, work_dir, '--arms', 'plain_matched', '--seeds', '0')
    cell = work_dir / 'runs' / 'plain_matched' / 'seed0'
    wait_for((cell / 'epoch_1.pth').exists, first)
    os.killpg(first.pid, signal.SIGSTOP)
    second = start(source, work_dir)
    try:
        wait_for(lambda: len(records(work_dir)) == 9, second)
        time.sleep(1)
        assert second.poll() is None, 'did not wait for the first'
        shared = records(work_dir)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        os.killpg(first.pid, signal.SIGCONT)
        first.wait()
    status = second.wait(300)
    return SimpleNamespace(
        source=source,
        work_dir=work_dir,
        shared=shared,
        status=status,
        output=work_dir.with_name('work.log').read_text(),
        records=records(work_dir),
        cell=cell,
        report=json.loads((work_dir / 'report.json').read_text()),
    )


def test_no_cell_is_trained_twice(finished: SimpleNamespace) -> None:
    done = cells(finished.records, 'finished')
    assert sorted(done) == sorted(GOOD)
    expected = dict.fromkeys(GOOD, 1)
    expected['plain_matched', 0] = 2
    found = sessions(finished.work_dir)
    assert {cell: found[cell] for cell in GOOD} == expected
    for record in finished.records:
        if record['status'] == 'finished':
            cell = record['arm'], record['seed']
            assert record['sessions'] == expected[cell]


def test_a_claimed_cell_is_left_alone_and_taken_over_when_freed(
    finished: SimpleNamespace,
) -> None:
    assert ('plain_matched', 0) not in cells(finished.shared, 'finished')
    # The killed tool's worker ended with it: it had no time to go on.
    log = (finished.cell / 'console.log').read_text()
    resumed = re.search(r'epoch_(\d+)\.pth is the newest intact', log)
    last = finished.records[-1]
    assert resumed is not None and int(resumed[1]) < last['epochs']
    assert (last['arm'], last['seed']) == ('plain_matched', 0)
    epochs = [epoch for epoch, _ in last['validation']]
    assert epochs == list(range(1, last['epochs'] + 1))
    assert last['epochs'] > 4


def test_the_cell_taken_over_ends_as_one_that_is_left_alone(
    finished: SimpleNamespace, tmp_path: Path
) -> None:
    work_dir = tmp_path / 'work'
    only = ('--arms', 'plain_matched', '--seeds', '0')
    assert start(finished.source, work_dir, *only).wait(300) == 0
    (alone,) = records(work_dir)
    taken_over = finished.records[-1]
    assert (alone['sessions'], taken_over['sessions']) == (1, 2)
    for key in ('hash', 'threads', 'validation', 'test'):
        assert taken_over[key] == alone[key]


def test_a_failed_cell_is_recorded_and_does_not_end_the_rest(
    finished: SimpleNamespace,
) -> None:
    assert finished.status == 1
    failed = cells(finished.records, 'failed')
    assert sorted(failed) == [('broken', 0), ('broken', 1)]
    blocked = cells(finished.records, 'blocked')
    assert sorted(blocked) == [('blocked', 0), ('blocked', 1)]
    for record in finished.records:
        if record['status'] == 'failed':
            assert 'exit status 1' in record['error']
            assert 'ValueError' in record['error']
        if record['status'] == 'blocked':
            assert f'broken seed {record["seed"]}' in record['error']
    assert '4 cell(s) failed: broken seed 0, blocked' in finished.output
    assert 'broken seed 1: failed: ValueError' in finished.output
    assert not (finished.work_dir / 'runs' / 'blocked').exists()


def test_each_network_met_the_test_set_once_after_training(
    finished: SimpleNamespace,
) -> None:
    for record in finished.records:
        if record['status'] != 'finished':
            continue
        folder = finished.work_dir / 'runs' / record['arm']
        log = (folder / f'seed{record["seed"]}' / 'console.log').read_text()
        tests = re.findall(r'Epoch\(test\).*accuracy/top1: ([\d.]+)', log)
        assert [float(text) for text in tests] == pytest.approx(
            [record['test']['accuracy/top1']], abs=1e-3
        )
        assert log.rindex('Epoch(test)') > log.rindex('Saving checkpoint')
        assert record['val'] == record['validation'][-1][1]


def test_a_record_says_what_it_is_from(finished: SimpleNamespace) -> None:
    by_cell = {
        (r['arm'], r['seed']): r
        for r in finished.records
        if r['status'] == 'finished'
    }
    soft, plain = by_cell['soft', 1], by_cell['plain_matched', 1]
    teacher = by_cell['teacher', 1]
    assert soft['total_multiply_adds'] == (
        soft['own_multiply_adds'] + teacher['own_multiply_adds']
    )
    per_epoch = plain['own_multiply_adds'] / plain['epochs']
    missed = plain['total_multiply_adds'] - soft['total_multiply_adds']
    assert abs(missed) <= per_epoch / 2
    # At the switch the student is the teacher with its branches off.
    assert soft['drop_shock']['teacher'] == pytest.approx(teacher['val'])
    assert soft['validation'][0] == [0, soft['drop_shock']['student']]
    assert soft['threads'] == 1 and soft['seconds'] > 0
    assert set(soft['code']) == {'packages', 'commit', 'dirty'}
    assert {'numpy', 'torch', 'reducenet_mm'} <= set(soft['code']['packages'])


def test_the_report_is_made_of_the_records(finished: SimpleNamespace) -> None:
    values: dict[str, list[float]] = {}
    for record in sorted(finished.records, key=lambda r: r['seed']):
        if record['status'] == 'finished':
            test = record['test']['accuracy/top1']
            values.setdefault(record['arm'], []).append(test)
    arms = {arm['name']: arm for arm in finished.report['arms']}
    for name, of_arm in values.items():
        assert list(arms[name]['values'].values()) == of_arm
        assert arms[name]['accuracy']['mean'] == pytest.approx(sum(of_arm) / 2)
    (comparison,) = finished.report['comparisons']
    pairs = zip(values['soft'], values['plain_matched'], strict=True)
    wanted = estimate([soft - plain for soft, plain in pairs])
    assert comparison['difference']['mean'] == pytest.approx(wanted.mean)
    assert comparison['difference']['low'] == pytest.approx(wanted.low)
    assert comparison['verdict'] == 'too few seeds'
    assert arms['broken']['accuracy'] is None
    text = (finished.work_dir / 'report.md').read_text()
    assert f'| soft | {arms["soft"]["accuracy"]["mean"]:.2f} ±' in text
    assert 'Failed: broken seed 0' in text
    assert (finished.work_dir / 'campaign.svg').read_text()[:4] == '<svg'


def test_only_checkpoints_that_are_waited_for_stay(
    finished: SimpleNamespace,
) -> None:
    left = {path.parts[-3:-1] for path in finished.work_dir.rglob('*.pth')}
    assert left == {('teacher', 'seed0'), ('teacher', 'seed1')}


def test_a_rerun_tries_what_failed_and_nothing_else(
    finished: SimpleNamespace, load_tool: Any, capsys: Any
) -> None:
    before = sessions(finished.work_dir)
    arguments = [str(finished.source), '--work-dir', str(finished.work_dir)]
    with pytest.raises(SystemExit) as caught:
        load_tool('experiment').main(arguments)
    assert '4 cell(s) failed' in str(caught.value)
    new = records(finished.work_dir)[len(finished.records) :]
    assert sorted(cells(new, 'failed')) == [('broken', 0), ('broken', 1)]
    assert sorted(cells(new, 'blocked')) == [('blocked', 0), ('blocked', 1)]
    assert len(new) == 4
    after = sessions(finished.work_dir)
    assert {cell: after[cell] for cell in GOOD} == {
        cell: before[cell] for cell in GOOD
    }
    report = finished.work_dir / 'report.json'
    report.unlink()
    load_tool('experiment').main([*arguments, '--report-only'])
    assert len(records(finished.work_dir)) == len(finished.records) + 4
    found = json.loads(report.read_text())
    assert found['arms'] == finished.report['arms']


def test_a_pilot_leaves_the_test_set_alone(
    tmp_path: Path, load_tool: Any, capsys: Any
) -> None:
    source, work_dir = tmp_path / 'tiny.py', tmp_path / 'work'
    source.write_text(CAMPAIGN)
    arguments = [str(source), '--work-dir', str(work_dir)]
    arguments += ['--arms', 'teacher', '--seeds', '1', '--processes', '2']
    load_tool('experiment').main([*arguments, '--no-test'])
    (pilot,) = records(work_dir)
    assert pilot['test'] is None and pilot['val'] is not None
    log = work_dir / 'runs' / 'teacher' / 'seed1' / 'console.log'
    assert 'Epoch(test)' not in log.read_text()
    assert (
        'The test set was not looked at'
        in (work_dir / 'report.md').read_text()
    )
    # The checkpoint has stayed, so that testing does not train again.
    load_tool('experiment').main(arguments)
    _, tested = records(work_dir)
    assert tested['hash'] == pilot['hash'] and tested['val'] == pilot['val']
    assert tested['sessions'] == 2
    assert log.read_text().count('Saving checkpoint at 2 epochs') == 1
    assert f'test {tested["test"]["accuracy/top1"]:.2f} %' in (
        capsys.readouterr().out
    )
