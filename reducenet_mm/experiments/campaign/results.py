# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""All figures of a campaign so far, as plain values for JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from ..estimates import (
    VERDICTS,
    Estimate,
    estimate,
    holm,
    paired_difference,
)
from ..processes import from_here, shell_command
from ..records import content_hash
from ..steps import COUNTED
from .config import Campaign
from .ledger import FINISHED, finished_record
from .plan import MATCHED, Cell, PlannedArm
from .regime import describe_regime

Record = Mapping[str, Any]


def collect(
    campaign: Campaign,
    planned: Mapping[str, PlannedArm],
    cells: Sequence[Cell],
    records: Sequence[Record],
    test: bool,
) -> dict[str, Any]:
    """Return the content of ``report.json``.

    Args:
        campaign: The campaign.
        planned: Its arms.
        cells: All of its cells.
        records: All results so far.
        test: Whether test accuracy is compared; otherwise validation
            accuracy, and no figure of the test set is shown.
    """
    found = {
        cell.name: finished_record(records, cell.hash, test) for cell in cells
    }
    done = _by_arm(cells, found)
    values, validation = (
        {
            name: _values(done[name], campaign.metric, of_test)
            for name in planned
        }
        for of_test in (test, False)
    )
    failed = _failed(cells, records, found)
    content = dict(
        campaign=campaign.name,
        metric=campaign.metric,
        compared='test' if test else 'validation',
        seeds=list(campaign.seeds),
        command=shell_command([sys.executable, *sys.argv]),
        counted=COUNTED,
        code=_distinct([_code(one) for one in found.values() if one]),
        arms=[
            _arm(planned[name], done[name], values[name], validation[name])
            for name in planned
        ],
        comparisons=_comparisons(
            campaign, planned, values, validation if test else None
        ),
        open=[
            name
            for name, record in found.items()
            if record is None and name not in failed
        ],
        failed=failed,
        tested=[
            name
            for name, record in found.items()
            if record is not None and record['test'] is not None
        ],
        tested_again=_tested_again(cells, records) if test else {},
        changed=_changed(cells, records),
    )
    content['regime'] = describe_regime(
        campaign.regime, values, validation if test else None
    )
    return content


def _by_arm(
    cells: Sequence[Cell], found: Mapping[str, Record | None]
) -> dict[str, dict[int, Record]]:
    """Return the records that there are, by arm and seed."""
    done: dict[str, dict[int, Record]] = {}
    for cell in cells:
        of_arm = done.setdefault(cell.arm.name, {})
        record = found[cell.name]
        if record is not None:
            of_arm[cell.seed] = record
    return done


def _values(
    of_arm: Mapping[int, Record], metric: str, test: bool
) -> dict[int, float]:
    if test:
        return {seed: r['test'][metric] for seed, r in of_arm.items()}
    return {
        seed: r['val'] for seed, r in of_arm.items() if r['val'] is not None
    }


def _arm(
    planned: PlannedArm,
    of_arm: Mapping[int, Record],
    values: Mapping[int, float],
    validation: Mapping[int, float],
) -> dict[str, Any]:
    records = list(of_arm.values())
    arm = planned.arm
    return dict(
        name=arm.name,
        config=from_here(arm.config),
        needs=dict(arm.needs),
        budget=arm.budget,
        match=arm.match,
        times=arm.times,
        budget_ratio=planned.budget_ratio,
        epochs=planned.epochs,
        periods=list(planned.periods),
        multiply_adds_per_image=planned.cost.per_image,
        images_per_epoch=planned.cost.images_per_epoch,
        own_multiply_adds=planned.own_multiply_adds,
        total_multiply_adds=planned.total_multiply_adds,
        params=planned.size.params,
        multiply_adds=planned.size.multiply_adds,
        values={str(seed): value for seed, value in sorted(values.items())},
        accuracy=_plain(estimate(list(values.values())) if values else None),
        validation=_plain(
            estimate(list(validation.values())) if validation else None
        ),
        drop_shock=_mean_drop(records),
        seconds=sum(record['seconds'] for record in records),
        sessions=sum(record['sessions'] for record in records),
    )


def _comparisons(
    campaign: Campaign,
    planned: Mapping[str, PlannedArm],
    values: Mapping[str, Mapping[int, float]],
    validation: Mapping[str, Mapping[int, float]] | None,
) -> list[dict[str, Any]]:
    """Return all comparisons; those that say something adjusted by Holm."""
    comparisons = [
        dict(
            _comparison(planned[arm], planned[control], later),
            **_judge(values, arm, control),
            validation=validation and _judge(validation, arm, control),
        )
        for later, pairs in (
            (False, campaign.comparisons),
            (True, campaign.later_comparisons),
        )
        for arm, control in pairs
    ]
    told = [one for one in comparisons if one['verdict'] in VERDICTS]
    adjusted = holm([one['p_value'] for one in told])
    for one, p_value in zip(told, adjusted):
        one['p_holm'] = p_value
    return comparisons


def _comparison(
    arm: PlannedArm, control: PlannedArm, later: bool
) -> dict[str, Any]:
    ratio = control.total_multiply_adds / arm.total_multiply_adds
    return dict(
        arm=arm.name,
        control=control.name,
        p_holm=None,
        cost_ratio=ratio,
        matched=abs(ratio - 1) <= MATCHED,
        later=later,
    )


def _judge(
    values: Mapping[str, Mapping[int, float]], arm: str, control: str
) -> dict[str, Any]:
    difference = paired_difference(values[arm], values[control])
    return dict(
        difference=_plain(difference),
        verdict=None if difference is None else difference.verdict,
        p_value=None if difference is None else difference.p_value,
    )


def _plain(value: Estimate | None) -> dict[str, Any] | None:
    return None if value is None else asdict(value)


def _mean_drop(records: Sequence[Record]) -> dict[str, float]:
    """Return the mean drop shock over seeds, by network."""
    drops = [record['drop_shock'] for record in records]
    names = dict.fromkeys(name for drop in drops for name in drop)
    return {
        name: fmean(drop[name] for drop in drops if name in drop)
        for name in names
    }


def _code(record: Record) -> dict[str, Any]:
    """Return the version of the code that finished, and that began, a cell."""
    if 'begun_by' in record:
        return dict(record['code'], begun_by=record['begun_by'])
    return dict(record['code'])


def _distinct(items: Sequence[Record]) -> list[dict[str, Any]]:
    """Return each different item once, with the number of ``cells``."""
    counted: dict[str, dict[str, Any]] = {}
    for item in items:
        entry = counted.setdefault(content_hash(item), dict(item, cells=0))
        entry['cells'] += 1
    return list(counted.values())


def _failed(
    cells: Sequence[Cell],
    records: Sequence[Record],
    found: Mapping[str, Record | None],
) -> dict[str, str]:
    """Return the last error of each cell that has no result."""
    errors = {}
    for cell in cells:
        if found[cell.name] is None:
            for record in records:
                if record['hash'] == cell.hash and 'error' in record:
                    errors[cell.name] = str(record['error'])
    return errors


def _tested_again(
    cells: Sequence[Cell], records: Sequence[Record]
) -> dict[str, int]:
    """Return the cells that met the test set more than once, and how often."""
    counts: dict[str, int] = {}
    for cell in cells:
        counts[cell.name] = sum(
            record['status'] == FINISHED
            and (record['arm'], record['seed']) == (cell.arm.name, cell.seed)
            and record['test'] is not None
            for record in records
        )
    return {name: count for name, count in counts.items() if count > 1}


def _changed(
    cells: Sequence[Cell], records: Sequence[Record]
) -> dict[str, float]:
    """Return cells that were trained with other results, and how far apart.

    A cell is trained again where its checkpoint is gone and another arm needs
    it; on another processor it may come out otherwise.

    Returns:
        Name -> the largest difference of their last validations; 0 if only
        earlier ones differ.
    """
    changed: dict[str, float] = {}
    for cell in cells:
        curves = [
            [value for _, value in record['validation']]
            for record in records
            if record['hash'] == cell.hash and record['status'] == FINISHED
        ]
        apart = [max(at) - min(at) for at in zip(*curves)]
        if any(apart):
            changed[cell.name] = apart[-1]
    return changed
