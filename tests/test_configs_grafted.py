# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Configs of stock networks that grow branches and give them back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS

from reducenet_mm import set_scaler
from reducenet_mm.models.supernet import hosts, ungraft
from tests.config_runs import CONFIGS, SHAPES, load, prepare, run, stem
from tests.conftest import randomise_norms

FOLDER = CONFIGS / 'reducenet/grafted'
STOCK = {
    'grafted-resnet18-w8-e4_digits': 'resnet18-w8_digits',
    'grafted-resnet18-e1_imagenet': 'resnet18_imagenet_finetune',
    'grafted-mobilenet-v2-e1_imagenet': 'mobilenet-v2_imagenet_finetune',
}
"""Name of a pair of configs -> that of the stock network's."""

LEAVES = sorted(FOLDER.glob('*.py'))
STUDENTS = [path for path in LEAVES if path.stem.endswith('_student')]


def config(name: str) -> Path:
    return FOLDER / f'{name}.py'


def test_every_family_is_complete():
    stages = [
        f'{n}_{stage}' for n in STOCK for stage in ('teacher', 'student')
    ]
    assert {stem(path) for path in LEAVES} == {*stages, *STOCK.values()}


@pytest.mark.parametrize('path', LEAVES, ids=stem)
def test_trains_validates_and_tests(path, tmp_path):
    cfg = prepare(path, tmp_path)
    if cfg.load_from is not None:  # a stock checkpoint, from the network
        pair = path.stem.removesuffix('_teacher')
        stock = MODELS.build(load(config(STOCK.get(pair, path.stem))).model)
        cfg.load_from = str(tmp_path / 'stock.pth')
        torch.save(dict(state_dict=stock.state_dict()), cfg.load_from)
    runner, seen = run(cfg)
    ((inputs, losses),) = seen['train']
    data = 'digits' if 'digits' in path.stem else 'imagenet'
    assert inputs.shape == (4, *SHAPES[data])
    names = {'loss'}
    if path in STUDENTS:
        names |= {'student.loss', 'distill.loss_kl'}
    assert set(losses) == names
    assert all(0 < loss < float('inf') for loss in losses.values())
    scalars = runner.message_hub.log_scalars
    assert 0 <= scalars['test/accuracy/top1'].current() <= 100


@pytest.mark.parametrize('name', STOCK)
def test_it_starts_and_ends_as_the_stock_network(name, tmp_path):
    """Stock checkpoint -> teacher, to the bit -> stock, strictly."""
    teacher_cfg = load(config(f'{name}_teacher'))
    source = load(config(STOCK[name]))
    assert teacher_cfg.model.backbone.backbone == source.model.backbone
    assert teacher_cfg.model.head == source.model.head
    stock = randomise_norms(MODELS.build(source.model)).eval()
    path = tmp_path / 'stock.pth'
    torch.save(dict(state_dict=stock.state_dict()), path)
    teacher = MODELS.build(teacher_cfg.model)
    teacher.init_weights()
    load_checkpoint(teacher, str(path))
    teacher.eval()
    assert {host.scaler for _, host in hosts(teacher)} == {1.0}
    images = torch.randn(2, *SHAPES[name.rpartition('_')[2]])[..., :64, :64]
    with torch.no_grad():
        wanted = stock(images)
        assert torch.equal(teacher(images), wanted)
        randomise_norms(teacher)  # trained
        assert not torch.allclose(teacher(images), wanted)
        set_scaler(teacher, 0.0)
        student = teacher(images)
        stock.load_state_dict(ungraft(teacher).state_dict(), strict=True)
        assert torch.equal(stock(images), student)


@pytest.mark.parametrize('path', STUDENTS, ids=stem)
def test_student_distils_its_own_teacher(path):
    name = path.stem.removesuffix('_student')
    cfg, source = load(path), load(config(f'{name}_teacher'))
    assert cfg.model.architecture == source.model
    assert cfg.model.teacher_ckpt == f'./work_dirs/{name}_teacher'
    assert cfg.load_from is None
    for key in ('train_dataloader', 'param_scheduler', 'train_cfg'):
        assert cfg[key] == source[key]
