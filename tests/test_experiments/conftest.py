# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A report's figures, made by hand."""

from __future__ import annotations

from typing import Any

import pytest


def _run(name: str, role: str, epochs: int, cost: float) -> dict[str, Any]:
    return dict(
        name=name,
        role=role,
        config=f'configs/{name}.py',
        epochs=epochs,
        periods=[],
        images_per_epoch=100,
        multiply_adds_per_image=cost / epochs / 100,
        multiply_adds=cost,
        budget_ratio=None,
        validation=[[epochs, 90.0]],
        sessions=1,
        checkpoint_sha256='0' * 64,
        command=f'python tools/train.py configs/{name}.py',
    )


def _network(
    name: str, role: str, accuracy: float, size: int
) -> dict[str, Any]:
    return dict(
        name=name,
        role=role,
        title=f'{name} ({role})',
        accuracy=accuracy,
        standard_error=0.5,
        metrics={'accuracy/top1': accuracy},
        params=size,
        multiply_adds=10 * size,
        training_multiply_adds=4e9,
        training_epochs=[4],
        latency=None,
        test_command=f'python tools/test.py configs/{name}.py',
        test_evaluations=1,
    )


@pytest.fixture
def content() -> dict[str, Any]:
    """Teacher 95, student 93, controls 94 (wins) and 92.5."""
    teacher, student = (
        _run('teacher', 'teacher', 4, 4e9),
        _run('student', 'student', 2, 1e9),
    )
    teacher['validation'] = [[2, 80.0], [4, 96.0]]
    student['validation'] = [[0, 11.0], [1, 90.0], [2, 93.5]]
    plain = _run('plain', 'control', 10, 5e9)
    plain.update(periods=[10], budget_ratio=1.004)
    plain['validation'] = [[5, 91.0], [10, 94.5]]
    restart = _run('plain_restart', 'control', 10, 5e9)
    restart.update(periods=[8, 2], budget_ratio=1.004, sessions=2)
    networks = [
        _network('teacher', 'teacher', 95.0, 4000),
        _network('student', 'student', 93.0, 1000),
        _network('plain', 'control', 94.0, 1000),
        _network('plain_restart', 'control', 92.5, 1000),
    ]
    networks[1].update(training_multiply_adds=5e9, training_epochs=[4, 2])
    networks[1]['latency'] = {
        '1': dict(median_ms=1.234, quartiles_ms=[1.1, 1.5], rounds=9),
        '64': dict(median_ms=1234.5, quartiles_ms=[999.6, 2000.0], rounds=9),
    }
    return dict(
        pipeline='tiny',
        seed=3,
        metric='accuracy/top1',
        command='python tools/reduce.py tiny.py',
        versions=dict(python='3.11', reducenet_mm='0.1.0'),
        platform='Linux',
        counted='convolutions and linear layers',
        stages_multiply_adds=5e9,
        test_images=400,
        drop_shock=dict(teacher=96.0, student=11.0),
        runs=[teacher, student, plain, restart],
        networks=networks,
        latency_conditions=dict(device='cpu', threads=2),
        export=dict(
            largest_difference=2.5e-16, images='validation', num_images=16
        ),
        reading='A reading.',
    )
