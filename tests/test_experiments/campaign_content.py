# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The content of a campaign's report, of figures made by hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from reducenet_mm.experiments.campaign.regime import describe_regime
from reducenet_mm.experiments.estimates import estimate

VALUES = dict(
    plain=[90.0, 90.2, 90.4, 90.6, 90.8],
    restart=[89.9, 90.3, 90.3, 90.7, 90.7],
    soft=[91.0, 91.3, 91.4, 91.5, 91.9],
)


def arm(name: str, cost: float, epochs: int) -> dict[str, Any]:
    values = VALUES[name]
    return dict(
        name=name,
        match=None if name == 'soft' else 'soft',
        times=1.0,
        budget_ratio=None if name == 'soft' else cost / 1e12,
        epochs=epochs,
        total_multiply_adds=cost,
        params=77_754,
        multiply_adds=764_000,
        values={str(seed): value for seed, value in enumerate(values)},
        accuracy=asdict(estimate(values)),
        drop_shock={},
    )


def comparison(
    name: str, control: str, matched: bool = True
) -> dict[str, Any]:
    pairs = zip(VALUES[name], VALUES[control], strict=True)
    difference = estimate([value - other for value, other in pairs])
    return dict(
        arm=name,
        control=control,
        difference=asdict(difference),
        verdict=difference.verdict,
        p_value=difference.p_value,
        p_holm=difference.p_value,
        cost_ratio=1.004 if matched else 0.5,
        matched=matched,
        later=False,
        validation=None,
    )


def campaign_content() -> dict[str, Any]:
    """Student 1.02 points above its control, restart level with it."""
    arms = [
        arm('plain', 1.004e12, 30),
        arm('restart', 1.004e12, 30),
        arm('soft', 1e12, 9),
    ]
    arms[2]['drop_shock'] = dict(teacher=92.5, student=10.0)
    by_seed = {name: dict(enumerate(v)) for name, v in VALUES.items()}
    return dict(
        campaign='tiny',
        compared='test',
        seeds=[0, 1, 2, 3, 4],
        command='python tools/experiment.py tiny.py',
        counted='convolutions and linear layers',
        code=[
            dict(packages=dict(torch='2'), commit='abc', dirty=True, cells=15)
        ],
        arms=arms,
        comparisons=[
            comparison('soft', 'plain'),
            comparison('restart', 'plain', matched=False),
            comparison('soft', 'restart'),
        ],
        regime=describe_regime(dict(control='plain', teacher='soft'), by_seed),
        open=[],
        failed={},
        tested=[],
        tested_again={},
        changed={},
    )
