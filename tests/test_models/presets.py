# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The presets of distillation and weight reuse, as tests read them."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

BASES = Path(__file__).parents[2] / 'configs/_base_'
DISTILL = sorted(path.stem for path in (BASES / 'distill').glob('*.py'))
REUSE = sorted(
    path.stem
    for path in (BASES / 'reuse').glob('*.py')
    if path.stem != 'lora'  # needs such a branch: test_lora_stage.py
)
WITH_TEACHER = [name for name in DISTILL if name != 'none']


def preset(folder, name):
    return Config.fromfile(BASES / folder / f'{name}.py').to_dict()


def distiller(name):
    return preset('distill', name)['distiller']


def reuse(name):
    content = preset('reuse', name)
    return dict(reuse=content['reuse'], norm_stats=content['norm_stats'])
