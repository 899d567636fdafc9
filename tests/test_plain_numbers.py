# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What counts as a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from reducenet_mm.plain_numbers import as_number, is_number, is_whole


@pytest.mark.parametrize(
    ('value', 'number', 'whole'),
    [(1, 1, 1), (0.5, 1, 0), (True, 0, 0), ('1', 0, 0), (None, 0, 0)],
)
def test_a_setting_is_no_bool(value: Any, number: int, whole: int) -> None:
    assert (is_number(value), is_whole(value)) == (number, whole)


@pytest.mark.parametrize(
    ('value', 'number'),
    [
        (2, 2.0),
        (np.float32(0.5), 0.5),
        (np.array(3), 3.0),
        (torch.tensor(0.25), 0.25),
        ('seven', None),
        ('7', None),
        (None, None),
        ({'a': 1}, None),
        ([1.0], None),
        (torch.ones(2), None),
    ],
)
def test_a_metric_is_a_number_or_left_out(
    value: Any, number: float | None
) -> None:
    assert as_number(value) == number
