# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""How many images of each class a part of a data set gets."""

from __future__ import annotations

import heapq

import numpy as np

KEY = '*_dataloader.dataset'
"""Where a ``HoldoutSplit`` stands in a config, for errors."""


def equal_quota(key: str, size: int, available: list[int]) -> list[int]:
    """Divide ``size`` images evenly among classes.

    Args:
        key: Name of the argument, for the error.
        size: Number of images.
        available: Largest possible share of each class.

    Returns:
        The share of each class; shares differ by at most one.

    Raises:
        ValueError: If ``size`` is not an int from the number of classes to
            what the scarcest class allows.
    """
    count = len(available)
    largest = _largest_balanced(available)
    check_int(
        key,
        size,
        count,
        largest,
        'a class-balanced part, at least one image of each class; '
        'stratified=True divides classes that are not equally large',
    )
    share, extra = divmod(int(size), count)
    return [share + (index < extra) for index in range(count)]


def proportional_quota(key: str, size: int, available: list[int]) -> list[int]:
    """Divide ``size`` images by what the classes have.

    Args:
        key: Name of the argument, for the error.
        size: Number of images.
        available: Largest possible share of each class.

    Returns:
        The share of each class, at least 1 where one is available, and
        never smaller where ``size`` is larger.

    Raises:
        ValueError: If ``size`` is not an int from the number of classes to
            all that is available.

    Source:
        The divisor method of Webster and Sainte-Lague: the next image goes
        to the class with the most images for each half of its share.
    """
    shares = [min(1, count) for count in available]
    what = 'a stratified part, one image of each class that has two'
    check_int(key, size, max(1, sum(shares)), sum(available), what)
    queue = [(-n / 3, index) for index, n in enumerate(available) if n > 1]
    heapq.heapify(queue)
    for _ in range(int(size) - sum(shares)):
        _, index = heapq.heappop(queue)
        shares[index] += 1
        if shares[index] < available[index]:
            next_ = -available[index] / (2 * shares[index] + 1)
            heapq.heappush(queue, (next_, index))
    return shares


def _largest_balanced(available: list[int]) -> int:
    """Return the most images that can be spread evenly over the classes."""
    count, least = len(available), min(available)
    # One image more goes to the first classes, up to the scarcest one.
    return least * count + available.index(least)


def check_int(key: str, value: int, low: int, high: int, what: str) -> None:
    """Raise ``ValueError`` unless ``low <= value <= high``.

    Args:
        key: Name of the argument.
        value: What was given.
        low: The least that it may be.
        high: The most.
        what: What it is the size of, for the error.
    """
    is_int = isinstance(value, (int, np.integer))
    if is_int and not isinstance(value, bool) and low <= value <= high:
        return
    wanted = (
        f'an int from {low} to {high}'
        if low <= high
        else f'at least {low}, of which this data set has only {high}'
    )
    raise ValueError(
        f'HoldoutSplit needs {key} to be {wanted} ({what}), got '
        f'{key}={value!r}. Correct the config key `{KEY}.{key}`.'
    )
