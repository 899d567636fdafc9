# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Markers of finished work: what was done, and out of what.

A marker holds a hash of everything that its result depends on. Work whose
marker has another hash, or none, is done again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

from reducenet_mm.files import write_json

MARKER, STARTED = 'done.json', 'started.json'


def content_hash(content: Any) -> str:
    """Return the SHA-256 of nested dicts, lists and plain values.

    The order of dict keys and of sets does not matter; tuples equal lists.
    Classes and functions count by their names.

    Raises:
        ValueError: If a value is none of these and has no name, so that it
            could not be told from another one in another process.
    """
    text = json.dumps(content, sort_keys=True, default=_name)
    return hashlib.sha256(text.encode()).hexdigest()


def _name(value: Any) -> str:
    """Return a text for what JSON has none for, the same in all processes."""
    if isinstance(value, (set, frozenset)):
        return f'<set {sorted(map(repr, value))}>'
    text = repr(value)
    if isinstance(value, FunctionType) and '<' not in value.__qualname__:
        return f'<function {value.__module__}.{value.__qualname__}>'
    if re.search(' at 0x[0-9a-fA-F]+', text):
        raise ValueError(
            f'{text} in a config: an object that has no name could not be '
            'told from another one when work is resumed. Write its config, '
            'dict(type=...), instead.'
        )
    return text


def read_marker(
    folder: Path, expected: str, name: str = MARKER
) -> dict[str, Any] | None:
    """Return the marker in ``folder`` if its hash is ``expected``.

    Args:
        folder: Where the work's results are.
        expected: Hash of what they would depend on now.
        name: File name of the marker.

    Returns:
        Its content, or None if there is no marker or it is of other work.
    """
    try:
        marker = json.loads((folder / name).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    fits = isinstance(marker, dict) and marker.get('hash') == expected
    return marker if fits else None


def write_marker(
    folder: Path, digest: str, content: Mapping[str, Any], name: str = MARKER
) -> dict[str, Any]:
    """Write a marker atomically and return its whole content."""
    folder.mkdir(parents=True, exist_ok=True)
    marker = dict(hash=digest, **content)
    write_json(folder / name, marker)
    return marker


def session_marker(
    started: Mapping[str, Any] | None, code: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a session leaves at its start.

    Args:
        started: What the one before it left; None if this is the first.
        code: Version of the code of this session.

    Returns:
        ``sessions``, the count; ``code``; and ``begun_by``, the code of the
        first session, where another one than this: None if it did not say.
    """
    marker: dict[str, Any] = dict(sessions=1, code=code)
    if started is not None:
        marker['sessions'] = int(started['sessions']) + 1
        first = started.get('begun_by', started.get('code'))
        if first != code:
            marker['begun_by'] = first
    return marker


def set_aside(folder: Path) -> Path | None:
    """Rename a folder of outdated results, so that nothing of it is lost.

    Returns:
        Its new path, ``<name>.old<n>``, or None if nothing was there.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return None
    number = 1
    while (target := folder.with_name(f'{folder.name}.old{number}')).exists():
        number += 1
    return folder.rename(target)
