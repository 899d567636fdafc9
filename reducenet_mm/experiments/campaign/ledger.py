# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The results of a campaign: a file of JSON lines that only grows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..processes import exclusive

RESULTS = 'results.jsonl'
FINISHED, FAILED, BLOCKED = 'finished', 'failed', 'blocked'
"""What a record can say of its cell; blocked: by one that failed."""
NEEDED = {'arm', 'hash', 'seed', 'status'}
"""Keys that every record has."""


class Ledger:
    """Records of cells, appended by any number of processes.

    Args:
        path: The file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """Return all complete records, oldest first.

        Raises:
            ValueError: If a line is no record.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        return [
            self._record(line, number)
            for number, line in enumerate(_complete(content).splitlines(), 1)
        ]

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; one that was cut off is cut away first.

        Raises:
            OSError: If it cannot be written, say because the disk is full;
                all complete records are still there.
        """
        line = json.dumps(dict(record), allow_nan=False) + '\n'
        with exclusive(self.path.parent, name=f'.{self.path.name}.lock'):
            try:
                self._append(line.encode())
            except OSError as error:
                raise OSError(
                    error.errno,
                    f'{self.path}: a record could not be added: '
                    f'{error.strerror}. Those before it are intact: free '
                    'space, then start the same command again.',
                ) from error

    def _append(self, line: bytes) -> None:
        with open(self.path, 'a+b') as file:
            file.seek(0)
            content = file.read()
            complete = _complete(content)
            if len(complete) < len(content):
                file.truncate(len(complete))
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _record(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not _is_record(record):
            raise ValueError(
                f'{self.path}: line {number} is no record of a cell. Remove '
                'that line; its cell is then trained again.'
            )
        return record


def _is_record(content: Mapping[str, Any]) -> bool:
    if not NEEDED <= content.keys():
        return False
    return content['status'] != FINISHED or 'test' in content


def finished_record(
    records: Sequence[Mapping[str, Any]], digest: str, test: bool = False
) -> Mapping[str, Any] | None:
    """Return the record of a finished cell, a tested one if possible.

    Args:
        records: All of the campaign, oldest first.
        digest: The cell's hash.
        test: Whether only a tested one will do.
    """
    fitting = [
        record
        for record in records
        if record['hash'] == digest and record['status'] == FINISHED
    ]
    tested = [record for record in fitting if record['test'] is not None]
    usable = tested or ([] if test else fitting)
    return usable[-1] if usable else None


def _complete(content: bytes) -> bytes:
    """Return whole lines: the last one may still be, or stay, unfinished."""
    return content[: content.rfind(b'\n') + 1]
