# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The plan of a campaign: every arm's length and cost, and all its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from reducenet_mm.engine.config_file import read_config

from ..budget import matched_epochs, restart_periods, schedule_options
from ..checks import (
    check_as_trained,
    check_checkpoints,
    errors_of,
    run_epochs,
)
from ..cost import NetworkSize, TrainingCost
from ..records import content_hash
from ..steps import fading_hooks, stop_epochs
from .arms import Arm, in_order, needed_arms
from .config import DEFAULT_METRIC, Campaign
from .meter import Meter

MATCHED = 0.05
"""Costs that differ by no more than this share are called matched."""


@dataclass(frozen=True)
class PlannedArm:
    """An arm with everything that must be known before it is trained.

    Attributes:
        arm: What the campaign config says of it.
        options: Overrides of its config, by dotted key, without the seed.
        cfg: Both merged; keys of `needs` are None in it.
        epochs: Its length.
        periods: Epochs from restart to restart of the learning rate.
        cost: Of one epoch.
        size: Of the network that is tested, as it is deployed.
        needed_multiply_adds: Training multiply-adds of all arms that it
            needs, each counted once.
        budget_ratio: Its total cost as a multiple of what it shall be.
    """

    arm: Arm
    options: dict[str, Any]
    cfg: Config
    epochs: int
    periods: tuple[int, ...]
    cost: TrainingCost
    size: NetworkSize
    needed_multiply_adds: float
    budget_ratio: float | None = None

    @property
    def name(self) -> str:
        """Name of the arm."""
        return self.arm.name

    @property
    def own_multiply_adds(self) -> float:
        """Training multiply-adds of its own epochs."""
        return self.epochs * self.cost.per_epoch

    @property
    def total_multiply_adds(self) -> float:
        """Training multiply-adds, all arms that it needs included."""
        return self.own_multiply_adds + self.needed_multiply_adds


@dataclass(frozen=True)
class Cell:
    """One arm with one seed: the unit of work.

    Attributes:
        arm: The arm.
        seed: The seed.
        needs: The cells whose last checkpoints it starts from, by config
            key.
        config_hash: Of its config, without the checkpoints it starts from.
        hash: Of its config, of the cells that it needs and of the number of
            threads, unless that is 1.
        folder: Where it is trained.
    """

    arm: PlannedArm
    seed: int
    needs: dict[str, Cell]
    config_hash: str
    hash: str
    folder: Path

    @property
    def name(self) -> str:
        """Unique in the campaign."""
        return f'{self.arm.name} seed {self.seed}'

    @property
    def checkpoint(self) -> Path:
        """That of its last epoch."""
        return self.folder / f'epoch_{self.arm.epochs}.pth'

    @property
    def claim_lock(self) -> str:
        """Name of the lock of the crew that has it trained."""
        return f'{self.arm.name}-seed{self.seed}.claim'

    @property
    def work_lock(self) -> str:
        """Name of the lock of the process that changes its folder."""
        return f'{self.arm.name}-seed{self.seed}.work'

    @property
    def options(self) -> dict[str, Any]:
        """Overrides of its config, by dotted key, with all checkpoints."""
        inputs = {k: str(cell.checkpoint) for k, cell in self.needs.items()}
        return {**self.arm.options, 'randomness.seed': self.seed, **inputs}


def plan_arms(
    campaign: Campaign, *, tested: bool = True
) -> dict[str, PlannedArm]:
    """Measure every arm and decide how long it trains.

    Args:
        campaign: The campaign.
        tested: Whether networks will be tested.

    Returns:
        The planned arms by name, in the config's order.

    Raises:
        FileNotFoundError: If a data set is not there.
        ValueError: If an arm's config cannot take part as it is meant to, or
            the regime's doubled arm does not cost twice its control.
    """
    planned: dict[str, PlannedArm] = {}
    meter = Meter()
    for arm in in_order(campaign.arms):
        with errors_of(f'arms.{arm.name}', arm.config):
            one = _plan(arm, campaign, planned, meter)
            # Of arms alike only the first is looked at when it is measured.
            check_as_trained(
                one.cfg,
                campaign.metric,
                tested=tested,
                student_init=arm.needs.get('model.student_init'),
            )
        planned[arm.name] = one
    _check_regime(campaign.regime, planned)
    return {name: planned[name] for name in campaign.arms}


def plan_cells(
    campaign: Campaign, planned: Mapping[str, PlannedArm], work_dir: Path
) -> list[Cell]:
    """Return all cells, seed by seed, each after those that it needs."""
    cells: list[Cell] = []
    for seed in campaign.seeds:
        of_seed: dict[str, Cell] = {}
        for arm in in_order(campaign.arms):
            needs = {key: of_seed[name] for key, name in arm.needs.items()}
            one = planned[arm.name]
            cfg = one.cfg.to_dict()
            cfg['randomness'] = {**cfg.get('randomness', {}), 'seed': seed}
            content = dict(
                config=cfg, inputs={key: c.hash for key, c in needs.items()}
            )
            if campaign.threads != 1:
                content['threads'] = campaign.threads
            if campaign.metric != DEFAULT_METRIC:  # what is kept of a run
                content['metric'] = campaign.metric
            of_seed[arm.name] = Cell(
                arm=one,
                seed=seed,
                needs=needs,
                config_hash=content_hash(cfg),
                hash=content_hash(content),
                folder=work_dir / 'runs' / arm.name / f'seed{seed}',
            )
        cells += of_seed.values()
    return cells


def _plan(
    arm: Arm,
    campaign: Campaign,
    planned: Mapping[str, PlannedArm],
    meter: Meter,
) -> PlannedArm:
    options = dict(arm.options)
    cfg = _merged(arm, options)
    check_checkpoints(cfg)
    if arm.epochs is not None:  # which a schedule may be a part of
        options.update(schedule_options(cfg, [arm.epochs]))
        cfg = _merged(arm, options)
    cost, size = meter.measure(cfg)
    needed = sum(
        planned[name].own_multiply_adds
        for name in needed_arms(campaign.arms, arm.name)
    )
    ratio = None
    periods = [run_epochs(cfg)]
    total = arm.budget
    if arm.match is not None:
        total = arm.times * planned[arm.match].total_multiply_adds
    if total is not None:
        _check_budget(arm, total, needed)
        _check_changing(cfg)
        periods[0], _ = matched_epochs(total - needed, cost.per_epoch)
        ratio = (periods[0] * cost.per_epoch + needed) / total
        if arm.restart_after is not None:
            before = planned[arm.restart_after].total_multiply_adds
            periods = restart_periods(
                periods[0], before - needed, total - needed
            )
    if total is not None:
        options.update(schedule_options(cfg, periods))
        cfg = _merged(arm, options)
    return PlannedArm(
        arm=arm,
        options=options,
        cfg=cfg,
        epochs=sum(periods),
        periods=tuple(periods),
        cost=cost,
        size=size,
        needed_multiply_adds=needed,
        budget_ratio=ratio,
    )


def _check_budget(arm: Arm, total: float, needed: float) -> None:
    if total <= needed:
        key, value = 'match', repr(arm.match)
        if arm.match is None:
            key, value = 'budget', f'{arm.budget:.3g}'
        raise ValueError(
            f'`{key}`={value} leaves nothing to train with: {total:.3g} '
            'multiply-adds are spent by what this arm needs '
            f'({", ".join(arm.needs.values())}: {needed:.3g}).'
        )


def _check_regime(
    regime: Mapping[str, str], planned: Mapping[str, PlannedArm]
) -> None:
    """Refuse to call twice the budget what is not."""
    if 'doubled' not in regime:
        return
    control, doubled = regime['control'], regime['doubled']
    one, two = planned[control], planned[doubled]
    wanted = 2 * one.total_multiply_adds
    # Each may have been rounded by half of an epoch.
    rounded = one.cost.per_epoch + two.cost.per_epoch / 2
    off = abs(two.total_multiply_adds - wanted)
    if off > max(MATCHED * wanted, rounded):
        ratio = two.total_multiply_adds / one.total_multiply_adds
        raise ValueError(
            f'`regime.doubled`={doubled!r} costs {ratio:.2f} times as much '
            f'as `regime.control`={control!r}, but must cost twice as much. '
            f'Give that arm match={control!r} and times=2.'
        )


def _check_changing(cfg: Config) -> None:
    """Refuse what costs another share of a training of another length."""
    given = [f'StopDistillHook(stop_epoch={at})' for at in stop_epochs(cfg)]
    other = ''
    for hook in fading_hooks(cfg):
        one = hook.schedule
        if (one.begin, one.end) != (0, None):
            given.append(f'{one.hook}(begin={one.begin}, end={one.end})')
            other = ' Or leave `begin` and `end` out: half of the training.'
    if given:
        raise ValueError(
            f'{" and ".join(given)} with `match` or `budget`: the length '
            'follows from the cost, and the mean cost of a step from the '
            f'length. Set `epochs` of the arm.{other}'
        )


def _merged(arm: Arm, options: Mapping[str, Any]) -> Config:
    """Return an arm's config; what it needs is not there yet: None."""
    unset = dict.fromkeys(arm.needs)
    return read_config(str(arm.config), {**options, **unset})
