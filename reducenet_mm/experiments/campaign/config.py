# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Campaign configs: which arms to train, with which seeds, at what cost."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reducenet_mm.engine.launch import read_config

from ..checks import check_keys, checked_int
from ..pipeline_config import flatten
from .taken import Files, taken_options

CAMPAIGN_KEYS = {
    'arms',
    'cfg_options',
    'comparisons',
    'later_comparisons',
    'metric',
    'regime',
    'seeds',
}
ARM_KEYS = {
    'cfg_options',
    'config',
    'control',
    'epochs',
    'match',
    'needs',
    'restart_after',
    'take',
    'times',
}
REGIME_KEYS = {'control', 'doubled', 'teacher'}
SET_BY_CAMPAIGN = {'load_from', 'randomness.seed', 'resume', 'work_dir'}
"""Training options that a campaign decides itself."""

Pair = tuple[str, str]
"""An arm and the one that it is compared with."""


@dataclass(frozen=True)
class Arm:
    """One way to train a network, to be repeated for every seed.

    Attributes:
        name: Unique in the campaign; also the name of its folder.
        config: Training config.
        options: Overrides of it, by dotted key, what it takes from other
            configs included.
        epochs: Its length if not the config's own.
        match: The arm whose total training cost this one shall have.
        times: The cost as a multiple of that.
        restart_after: The arm after whose total cost the learning rate
            restarts.
        needs: Arms whose last checkpoints it starts from, by config key.
        control: The arm that it is compared with.
    """

    name: str
    config: Path
    options: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    match: str | None = None
    times: float = 1.0
    restart_after: str | None = None
    needs: dict[str, str] = field(default_factory=dict)
    control: str | None = None

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield the keys that name another arm, with that name."""
        for key in ('match', 'restart_after', 'control'):
            value = getattr(self, key)
            if value is not None:
                yield key, value
        for key, value in self.needs.items():
            yield f'needs[{key!r}]', value

    @property
    def planned_after(self) -> list[str]:
        """Arms whose cost must be known before this one's length is."""
        before = [self.match, self.restart_after, *self.needs.values()]
        return [name for name in before if name is not None]


@dataclass(frozen=True)
class Campaign:
    """A campaign config, checked.

    Attributes:
        source: The config file.
        seeds: Each arm is trained once with each.
        arms: By name, in the config's order.
        comparisons: Pairs of an arm and its control.
        later_comparisons: More of them, chosen after a look at results.
        regime: Arms that tell in which regime the campaign is: 'control',
            'doubled' (the control at twice the cost) and 'teacher'.
        metric: The logged metric, in percent, that is compared.
    """

    source: Path
    seeds: tuple[int, ...]
    arms: dict[str, Arm]
    comparisons: tuple[Pair, ...]
    later_comparisons: tuple[Pair, ...]
    regime: dict[str, str]
    metric: str

    @property
    def name(self) -> str:
        """Its folder and file, as in several folders lies a means.py."""
        path = self.source.absolute()
        folder = path.parent.name
        return folder if path.stem == folder else f'{folder}-{path.stem}'


def read_campaign(
    path: str | Path, options: Mapping[str, Any] | None = None
) -> Campaign:
    """Read and check a campaign config.

    Args:
        path: The config file; paths in it are relative to its folder.
        options: Overrides by dotted key, such as ``arms.plain.epochs``.

    Raises:
        FileNotFoundError: If it or a config that it names is not there.
        ValueError: If a key or value in it is wrong.
    """
    content = read_config(str(path), options).to_dict()
    source = Path(path)
    check_keys('the campaign config', content, CAMPAIGN_KEYS)
    common = flatten(content.get('cfg_options') or {})
    raw = content.get('arms')
    if not isinstance(raw, Mapping) or not raw:
        raise ValueError(
            '`arms` must be a dict of at least one arm: name -> dict('
            f'config=...), got {raw!r}.'
        )
    files = Files(source.parent)
    arms = {name: _arm(source, name, raw[name], common, files) for name in raw}
    for arm in arms.values():
        for key, name in arm.named():
            _check_arm(f'arms.{arm.name}.{key}', name, arms)
    in_order(arms)
    comparisons, later = _comparisons(content, arms)
    return Campaign(
        source=source,
        seeds=_seeds(content.get('seeds')),
        arms=arms,
        comparisons=comparisons,
        later_comparisons=later,
        regime=_regime(content.get('regime') or {}, arms),
        metric=str(content.get('metric', 'accuracy/top1')),
    )


def needed_arms(arms: Mapping[str, Arm], name: str) -> list[str]:
    """Return all arms that must be trained before ``name``, each once."""
    found: list[str] = []
    for other in arms[name].needs.values():
        for one in (*needed_arms(arms, other), other):
            if one not in found:
                found.append(one)
    return found


def in_order(arms: Mapping[str, Arm]) -> list[Arm]:
    """Return the arms, each after those that its length depends on.

    Raises:
        ValueError: If some depend on one another.
    """
    ordered: list[Arm] = []
    waiting = dict(arms)
    while waiting:
        for arm in waiting.values():
            if not any(name in waiting for name in arm.planned_after):
                break
        else:
            raise ValueError(
                f'the arms {sorted(waiting)} depend on one another in a '
                'circle, or on such a circle. Correct their `needs`, `match` '
                'and `restart_after`.'
            )
        ordered.append(waiting.pop(arm.name))
    return ordered


def _arm(
    source: Path,
    name: str,
    item: Any,
    common: Mapping[str, Any],
    files: Files,
) -> Arm:
    where = f'arms.{name}'
    if not isinstance(item, Mapping):
        raise ValueError(f'`{where}` must be a dict, got {item!r}.')
    check_keys(f'`{where}`', item, ARM_KEYS)
    if not re.fullmatch(r'[A-Za-z0-9]\w*', name):
        raise ValueError(
            f"`{where}`: an arm's name is letters, digits and '_', got "
            f'{name!r}.'
        )
    if not isinstance(item.get('config'), str):
        raise ValueError(
            f'`{where}.config` must be a string, got {item.get("config")!r}.'
        )
    config = Path(os.path.normpath(source.parent / item['config']))
    if not config.is_file():
        raise FileNotFoundError(
            f'`{where}.config`={item["config"]!r} is not there: {config} '
            f'(relative to the campaign config {source}).'
        )
    taken = taken_options(where, item['config'], item.get('take', {}), files)
    own = flatten(item.get('cfg_options') or {})
    options = {**taken, **common, **own}
    needs = flatten(item.get('needs') or {})
    decided = sorted((SET_BY_CAMPAIGN | set(needs)) & set(options))
    if decided:
        raise ValueError(
            f'`{where}.cfg_options` sets {decided}, which the campaign '
            'decides by `seeds` and `needs`. Remove it.'
        )
    _check_length(where, item)
    return Arm(
        name=name,
        config=config,
        options=options,
        epochs=item.get('epochs'),
        match=item.get('match'),
        times=float(item.get('times', 1)),
        restart_after=item.get('restart_after'),
        needs=needs,
        control=item.get('control'),
    )


def _check_length(where: str, item: Mapping[str, Any]) -> None:
    """Check the keys that decide how long an arm trains."""
    epochs, match = item.get('epochs'), item.get('match')
    if epochs is not None:
        checked_int(f'{where}.epochs', epochs, 1)
    if epochs is not None and match is not None:
        raise ValueError(
            f'`{where}` sets both `epochs`={epochs} and `match`={match!r}; '
            'its length can be one of them only.'
        )
    for key in ('times', 'restart_after'):
        if key in item and match is None:
            raise ValueError(
                f'`{where}.{key}`={item[key]!r} needs `{where}.match`: the '
                'arm whose cost is shared.'
            )
    times = item.get('times', 1)
    is_number = isinstance(times, (int, float)) and times > 0
    if not is_number or isinstance(times, bool):
        raise ValueError(
            f'`{where}.times` must be a positive number, got {times!r}.'
        )


def _check_arm(where: str, name: Any, arms: Mapping[str, Arm]) -> None:
    if name not in arms:
        raise ValueError(
            f'`{where}` must name an arm, one of {sorted(arms)}, got {name!r}.'
        )


def _regime(
    value: Mapping[str, Any], arms: Mapping[str, Arm]
) -> dict[str, str]:
    regime = dict(value)
    check_keys('`regime`', regime, REGIME_KEYS)
    for key, name in regime.items():
        _check_arm(f'regime.{key}', name, arms)
    if regime and 'control' not in regime:
        raise ValueError(f'`regime.control` is not set, got {regime}.')
    return regime


def _seeds(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(
            f'`seeds` must be a list of at least one integer, got {value!r}.'
        )
    seeds = tuple(
        checked_int(f'seeds[{index}]', seed, 0)
        for index, seed in enumerate(value)
    )
    if len(set(seeds)) < len(seeds):
        raise ValueError(f'`seeds` has one more than once: {list(seeds)}.')
    return seeds


def _comparisons(
    content: Mapping[str, Any], arms: Mapping[str, Arm]
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Return the planned pairs, those of the arms first, and the later."""
    planned = [(arm.name, arm.control) for arm in arms.values() if arm.control]
    planned += _pairs('comparisons', content, arms)
    later = _pairs('later_comparisons', content, arms)
    for (arm, control), times in Counter([*planned, *later]).items():
        if arm == control or times > 1:
            raise ValueError(
                f'{arm!r} is compared with {control!r} more than once, or '
                'with itself. Correct `comparisons`, `later_comparisons` or '
                'the `control` keys.'
            )
    return tuple(planned), tuple(later)


def _pairs(
    key: str, content: Mapping[str, Any], arms: Mapping[str, Arm]
) -> list[Pair]:
    value = content.get(key, ())
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f'`{key}` must be a list of pairs, got {value!r}.')
    for index, pair in enumerate(value):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(
                f'`{key}[{index}]` must be a pair (arm, control), got '
                f'{pair!r}.'
            )
        for name in pair:
            _check_arm(f'{key}[{index}]', name, arms)
    return [(arm, control) for arm, control in value]
