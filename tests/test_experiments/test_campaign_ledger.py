# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Records survive kills in the middle of a line and several writers."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from reducenet_mm.experiments.campaign.ledger import Ledger, finished_record


def record(seed: int, **more: object) -> dict[str, object]:
    return dict(
        arm='a', seed=seed, status='finished', hash='h', test=None, **more
    )


def test_records_come_back_in_order(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / 'new' / 'results.jsonl')
    assert ledger.read() == []
    for seed in range(3):
        ledger.append(record(seed))
    assert [record['seed'] for record in ledger.read()] == [0, 1, 2]


def test_a_line_cut_off_by_a_kill_is_cut_away(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / 'results.jsonl')
    ledger.append(record(0))
    with open(ledger.path, 'ab') as file:
        file.write(b'{"arm": "a", "val": 9')
    assert ledger.read() == [record(0)]
    ledger.append(record(2))
    assert ledger.read() == [record(0), record(2)]
    lines = ledger.path.read_text().splitlines(keepends=True)
    assert lines == [f'{json.dumps(record(seed))}\n' for seed in (0, 2)]


@pytest.mark.parametrize(
    'damage',
    [
        'nonsense',
        '{}',
        '[]',
        '{"arm": "a", "hash": "h", "seed": 0, "status": "finished"}',
    ],
)
def test_another_damage_is_told(tmp_path: Path, damage: str) -> None:
    path = tmp_path / 'results.jsonl'
    path.write_text(f'{json.dumps(record(0))}\n{damage}\n')
    with pytest.raises(ValueError, match='line 2 is no record'):
        Ledger(path).read()


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / 'results.jsonl'

    def write(writer: int) -> None:
        for number in range(20):
            Ledger(path).append(record(writer, number=number))

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [(r['seed'], r['number']) for r in Ledger(path).read()]
    assert sorted(found) == [(i, n) for i in range(4) for n in range(20)]


def test_the_record_that_counts_is_a_tested_one_of_the_same_hash() -> None:
    tested = dict(hash='a', status='finished', test={'x': 1.0})
    untested = dict(hash='a', status='finished', test=None)
    others = [
        dict(hash='b', status='finished', test={'x': 2.0}),
        dict(hash='a', status='failed'),
    ]
    assert finished_record([tested, *others, untested], 'a') is tested
    assert finished_record([*others, untested], 'a') is untested
    assert finished_record([*others, untested], 'a', test=True) is None
    assert finished_record(others, 'a') is None
