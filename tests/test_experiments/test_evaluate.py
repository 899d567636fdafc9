# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What is kept of a test."""

from __future__ import annotations

from reducenet_mm.experiments.pipeline.evaluate import plain_metrics


def test_only_finite_numbers_are_reported() -> None:
    metrics = {'a': 1.5, 'b': float('nan'), 'c': [[1, 0]], 'd': 'text'}
    assert plain_metrics(metrics) == {'a': 1.5}
