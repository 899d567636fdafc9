# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Seeds as functions of numbers, such as (seed, epoch, index)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator

_NUMBER = struct.Struct('<q')
_SEEDS = struct.Struct('<QIQ')  # NumPy's legacy generator takes 32 bits

MOST_SEED = 2**32 - 1
"""NumPy takes no greater seed."""

Seeds = tuple[int, int, int]
"""For Python's, NumPy's and torch's generator: of 64, 32 and 64 bits."""


def mix_seeds(purpose: str, *numbers: int) -> Seeds:
    """Hash numbers into seeds of streams that have nothing in common.

    Sums, say of seed and epoch, would give runs of neighbouring seeds the
    same streams, one epoch apart.

    Args:
        purpose: What the seeds are for: other seeds for each, <= 16 bytes.
        numbers: From -2**63 to 2**63 - 1.

    Returns:
        Seeds for Python's, NumPy's and torch's generator: of 64, 32, 64 bits.
    """
    return _SEEDS.unpack(_hashed(purpose, *numbers).digest())


def mix_seeds_of_each(
    purpose: str, first: tuple[int, ...], last: Iterable[int]
) -> Iterator[tuple[int, Seeds]]:
    """Yield each last number with ``mix_seeds(purpose, *first, number)``.

    What they share is hashed just once.
    """
    shared = _hashed(purpose, *first)
    for number in last:
        digest = shared.copy()
        digest.update(_NUMBER.pack(number))
        yield number, _SEEDS.unpack(digest.digest())


def _hashed(purpose: str, *numbers: int) -> hashlib.blake2b:
    return hashlib.blake2b(
        b''.join(map(_NUMBER.pack, numbers)),
        digest_size=_SEEDS.size,
        person=purpose.encode(),
    )
