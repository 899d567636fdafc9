# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The modes that record_kills.py kills are all ways of training there are.

What there is comes from the registries and tables of the package, so that
something new has no mode until somebody writes one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook
from mmengine.registry import Registry
from mmrazor.registry import MODELS as ALGORITHMS

import reducenet_mm.models.algorithms  # noqa: F401  registers them
from reducenet_mm.models import ReduceNet
from reducenet_mm.models.algorithms.norm_stats import NORM_STATS
from reducenet_mm.models.backbones.reduce_blocks import BLOCKS
from reducenet_mm.models.layers.lora import LORA_KINDS
from reducenet_mm.models.layers.sequential import STUDENT_CONVS
from reducenet_mm.registry import BACKBONES, HOOKS, LAYERS

ROOT = Path(__file__).parents[2]
PATHS = sorted((Path(__file__).parent / 'kill_modes').glob('*.py'))
MODES = {path.stem: Config.fromfile(path) for path in PATHS}
INPUTS = ('teacher_ckpt', 'student_init')
SECTIONS = ('model', 'custom_hooks', 'default_hooks')
"""What of a mode is used; presets leave other names in it, too."""


def ours(registry: Registry, package: str) -> set[str]:
    """Return what a package of this project has put into a registry."""
    return {
        name
        for name, one in registry.module_dict.items()
        if one.__module__.startswith(f'reducenet_mm.{package}.')
    }


OURS = ours(ALGORITHMS, 'models.algorithms')


def types(value: Any) -> Iterator[str]:
    """Yield every ``type`` inside a value, without its scope."""
    if isinstance(value, dict):
        if 'type' in value:
            yield value['type'].rpartition('.')[2]
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for child in value:
            yield from types(child)


def networks() -> Iterator[tuple[str, ConfigDict]]:
    """Yield what trains every network and its ``backbone``."""
    for cfg in MODES.values():
        for network in (cfg.model, cfg.model.get('architecture', {})):
            if 'backbone' in network:
                yield cfg.model.type, network.backbone


def setting(backbone: ConfigDict, name: str) -> Any:
    """Return a setting of ``ReduceNet``, or its default."""
    default = inspect.signature(ReduceNet).parameters[name].default
    return backbone.get(name, default)


@pytest.mark.parametrize(
    'wanted',
    [
        OURS,
        ours(BACKBONES, 'models.backbones'),
        ours(LAYERS, 'models.backbones'),
        ours(HOOKS, 'engine.hooks'),
        {
            EMAHook.__name__,
            Config.fromfile(
                ROOT / 'configs/experiments/_base_/two_networks.py'
            ).model.type,
        },
    ],
    ids=['algorithms', 'backbones', 'any_toolbox', 'hooks', 'of_others'],
)
def test_every_part_of_a_training_is_in_a_mode(wanted: set[str]) -> None:
    found = {
        name
        for cfg in MODES.values()
        for section in SECTIONS
        for name in types(cfg.get(section))
    }
    assert wanted
    assert wanted - found == set()


def test_every_block_is_trained_alone_and_by_every_algorithm() -> None:
    found = {
        (kind, setting(backbone, 'block'))
        for kind, backbone in networks()
        if backbone.type == ReduceNet.__name__
    }
    assert set(product({*OURS, 'ImageClassifier'}, BLOCKS)) - found == set()


def test_not_all_students_learn_from_the_same_loss() -> None:
    distillers = [cfg.model.get('distiller') for cfg in MODES.values()]
    losses = [
        loss.type
        for distiller in filter(None, distillers)
        for loss in distiller.distill_losses.values()
    ]
    assert len(set(losses)) > 1


def test_every_kind_of_student_is_in_a_mode() -> None:
    backbones = [one for kind, one in networks() if kind in OURS]
    loras = [one.lora.kind for one in backbones if one.get('lora')]
    assert set(loras) == set(LORA_KINDS)
    convs = [
        setting(one, 'student_conv')
        for one in backbones
        if one.get('block') == 'sequential'
    ]
    assert set(convs) == set(STUDENT_CONVS)
    norm_stats = {cfg.model.get('norm_stats') for cfg in MODES.values()}
    assert norm_stats - {None} == set(NORM_STATS)


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
def test_every_mode_is_reproducible_and_saved_atomically(path: Path) -> None:
    cfg = MODES[path.stem]
    assert cfg.default_hooks.checkpoint.backend_args == dict(backend='atomic')
    assert cfg.train_dataloader.sampler.type == 'SeededSampler'
    assert {'exact_resume', 'seeded_step'} < set(cfg.default_hooks)


def test_a_mode_starts_from_what_another_one_ends_with() -> None:
    used = set()
    for cfg in MODES.values():
        starts = {key: cfg.model.get(key) for key in INPUTS}
        starts['load_from'] = cfg.get('load_from')
        for key, start in starts.items():
            if start is None:
                continue
            used.add(key)
            work, kills, mode, reference, *file = Path(start).parts
            assert (work, kills) == ('work_dirs', 'kills')
            assert reference == 'reference'
            last = f'epoch_{MODES[mode].train_cfg.max_epochs}.pth'
            assert file in ([], [last])
    assert used == {*INPUTS, 'load_from'}
