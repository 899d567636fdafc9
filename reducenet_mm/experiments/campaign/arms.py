# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The arms of a campaign: what each trains, and which others it depends on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from reducenet_mm.plain_numbers import checked_int, is_number

from ..checks import check_entry, checked_config, read_options
from .taken import Files, taken_options

ARM_KEYS = {
    'budget',
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
SET_BY_CAMPAIGN = {'load_from', 'randomness.seed', 'resume', 'work_dir'}
"""Training options that a campaign decides itself."""


@dataclass(frozen=True)
class Arm:
    """One way to train a network, to be repeated for every seed.

    Attributes:
        name: Unique in the campaign; also the name of its folder.
        config: Training config.
        options: Overrides of it, by dotted key, what it takes from other
            configs included.
        epochs: Its length if not the config's own.
        budget: The total training cost that it shall have, in multiply-adds,
            that of all arms that it needs included.
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
    budget: float | None = None
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


def read_arm(
    source: Path,
    name: str,
    item: Any,
    common: Mapping[str, Any],
    files: Files,
) -> Arm:
    """Read and check one entry of a campaign config's `arms`.

    Args:
        source: The campaign config; the arm's paths are relative to it.
        name: The arm's name.
        item: Its entry.
        common: Overrides that all arms share, by dotted key.
        files: Configs that arms take values from.

    Raises:
        FileNotFoundError: If a config that it names is not there.
        ValueError: If a key or value in it is wrong.
    """
    where = f'arms.{name}'
    check_entry(where, item, ARM_KEYS)
    if not re.fullmatch(r'[A-Za-z0-9]\w*', name):
        raise ValueError(
            f"`{where}`: an arm's name is letters, digits and '_', got "
            f'{name!r}.'
        )
    config = checked_config(where, item, source, 'campaign')
    taken = taken_options(where, item['config'], item.get('take', {}), files)
    own = read_options(f'{where}.cfg_options', item.get('cfg_options'))
    options = {**taken, **common, **own}
    needs = read_options(f'{where}.needs', item.get('needs'))
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
        budget=item.get('budget'),
        match=item.get('match'),
        times=float(item.get('times', 1)),
        restart_after=item.get('restart_after'),
        needs=needs,
        control=item.get('control'),
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


def _check_length(where: str, item: Mapping[str, Any]) -> None:
    """Check the keys that decide how long an arm trains."""
    match = item.get('match')
    if item.get('epochs') is not None:
        checked_int(f'{where}.epochs', item['epochs'], 1)
    if item.get('budget') is not None:
        _check_positive(f'{where}.budget', item['budget'])
    lengths = {key: item.get(key) for key in ('epochs', 'budget', 'match')}
    given = {k: value for k, value in lengths.items() if value is not None}
    if len(given) > 1:
        both = ' and '.join(f'`{k}`={value!r}' for k, value in given.items())
        raise ValueError(
            f'`{where}` sets both {both}; its length can be one of them only.'
        )
    for key in ('times', 'restart_after'):
        if key in item and match is None:
            raise ValueError(
                f'`{where}.{key}`={item[key]!r} needs `{where}.match`: the '
                'arm whose cost is shared.'
            )
    _check_positive(f'{where}.times', item.get('times', 1))


def _check_positive(where: str, value: Any) -> None:
    if not is_number(value) or not 0 < value < inf:
        raise ValueError(
            f'`{where}` must be a positive number, got {value!r}.'
        )
