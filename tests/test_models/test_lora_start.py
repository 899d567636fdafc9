# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Students of other stages as the start of a lora stage, and the reverse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from reducenet_mm.export import export_student
from tests.test_models.lora_stage import KINDS, Stage, losses_by_hand, run


@pytest.fixture
def stage(tmp_path):
    return lambda block='postsum': Stage(tmp_path, block)


@pytest.fixture
def images():
    return torch.rand(4, 1, 8, 8)


def distilled(stage: Stage) -> tuple[Config, Path]:
    """A student stage before this one, which all of it trained."""
    cfg = stage.config(None, **{'model.student_init': None})
    cfg.model.reuse = dict(inherit='all', freeze=['classifier'])
    cfg.model.norm_stats = 'live'
    cfg.work_dir = str(stage.folder / 'before')
    run(cfg)
    return cfg, stage.folder / 'before' / 'epoch_2.pth'


@pytest.mark.parametrize('source', ['distillation', 'exported'])
def test_the_student_before_it_is_its_start(stage, images, source):
    stage = stage()
    cfg, path = distilled(stage)
    before = MODELS.build(cfg.model)
    before.load_state_dict(torch.load(path, weights_only=False)['state_dict'])
    wanted = before.eval()(images)
    if source == 'exported':
        path = export_student(cfg, path, stage.folder / 'out').weights
    cfg = stage.config(KINDS['both'], **{'model.student_init': str(path)})
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert torch.equal(model.eval()(images), wanted)
    assert torch.equal(model.teacher(images), stage.teacher(images))
    assert not torch.allclose(wanted, stage.student(images))
    runner, first = stage.train(
        KINDS['both'], **{'model.student_init': str(path)}
    )
    stage.student.load_state_dict(before.architecture.state_dict())
    by_hand = losses_by_hand(stage, first.batch, runner.model)
    for name, value in by_hand.items():
        torch.testing.assert_close(first.losses[name], value)


@pytest.mark.parametrize('kind', ['both', 'point', 'weight'])
def test_the_stage_after_it_starts_from_the_merge(stage, images, kind):
    stage = stage()
    runner, _ = stage.train(KINDS[kind])
    wanted = runner.model.eval()(images)
    path = f'{runner.work_dir}/epoch_2.pth'
    cfg = stage.config(None, **{'model.student_init': path})
    cfg.model.reuse = dict(inherit='all', freeze=['classifier'])
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.testing.assert_close(model.eval()(images), wanted)
    assert not torch.allclose(wanted, stage.student(images), atol=1e-4)
    assert torch.equal(model.teacher(images), stage.teacher(images))
