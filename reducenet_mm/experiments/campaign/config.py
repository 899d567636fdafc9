# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Campaign configs: arms, seeds, and what is compared with what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reducenet_mm.engine.config_file import read_config
from reducenet_mm.plain_numbers import checked_int
from reducenet_mm.seeds import MOST_SEED

from ..checks import check_entry, check_keys, read_options
from .arms import Arm, in_order, read_arm
from .taken import Files

CAMPAIGN_KEYS = {
    'arms',
    'cfg_options',
    'comparisons',
    'later_comparisons',
    'metric',
    'regime',
    'seeds',
    'threads',
}
DEFAULT_METRIC = 'accuracy/top1'
REGIME_KEYS = {'control', 'doubled', 'teacher'}

Pair = tuple[str, str]
"""An arm and the one that it is compared with."""


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
        threads: How many each training computes with. Weights depend on it,
            so it is not left to the machine.
    """

    source: Path
    seeds: tuple[int, ...]
    arms: dict[str, Arm]
    comparisons: tuple[Pair, ...]
    later_comparisons: tuple[Pair, ...]
    regime: dict[str, str]
    metric: str
    threads: int

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
    common = read_options('cfg_options', content.get('cfg_options'))
    raw = content.get('arms')
    if not isinstance(raw, Mapping) or not raw:
        raise ValueError(
            '`arms` must be a dict of at least one arm: name -> dict('
            f'config=...), got {raw!r}.'
        )
    files = Files(source.parent)
    arms = {
        name: read_arm(source, name, raw[name], common, files) for name in raw
    }
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
        metric=str(content.get('metric', DEFAULT_METRIC)),
        threads=checked_int('threads', content.get('threads', 1), 1),
    )


def _check_arm(where: str, name: Any, arms: Mapping[str, Arm]) -> None:
    if not isinstance(name, str) or name not in arms:
        raise ValueError(
            f'`{where}` must name an arm, one of {sorted(arms)}, got {name!r}.'
        )


def _regime(value: Any, arms: Mapping[str, Arm]) -> dict[str, str]:
    check_entry('regime', value, REGIME_KEYS)
    regime = dict(value)
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
        checked_int(f'seeds[{index}]', seed, 0, MOST_SEED)
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
