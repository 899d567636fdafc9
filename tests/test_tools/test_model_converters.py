# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The converters of MMPretrain and MMRazor on our checkpoints, as processes.

And what a plain config says to a checkpoint of a distillation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmpretrain import get_model
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from reducenet_mm.models.checkpoint_views import (
    is_distill_state_dict,
    split_state_dict,
)
from tests.conftest import randomise_norms
from tests.test_tools.stock_tools import stock_tool

WITH_OUR_LOADER = (
    'import reducenet_mm, runpy, sys; del sys.argv[0]; '
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
"""Runs a tool that does not import us, so that it loads log histories."""


REPARAMETERIZE = stock_tool(
    'mmpretrain', 'model_converters/reparameterize_model.py'
)
TO_STUDENT = stock_tool(
    'mmrazor', 'model_converters/convert_kd_ckpt_to_student.py'
)


@pytest.fixture
def leaf(tmp_path: Path, config: SimpleNamespace) -> Callable[..., Path]:
    """Write a config that inherits the teacher's, narrow, and a backbone."""

    def write(name: str, base: str = config.teacher, **backbone: Any) -> Path:
        path = tmp_path / f'{name}.py'
        narrow = dict(base_channels=8, **backbone)
        model = dict(backbone=narrow, head=dict(in_channels=32))
        path.write_text(f'_base_ = {base!r}\nmodel = {model!r}\n')
        return path

    return write


def build(config_file: Path) -> nn.Module:
    """Build a config's classifier in eval mode."""
    cfg = Config.fromfile(config_file)
    preprocessor = cfg.data_preprocessor
    model = dict(cfg.model, data_preprocessor=preprocessor)
    return MODELS.build(dict(model, _scope_='mmpretrain')).eval()


def logits(config_file: Path, weights: dict[str, Tensor]) -> Tensor:
    """Load ``weights`` strictly; answer to the same images every time."""
    model = build(config_file)
    model.load_state_dict(weights, strict=True)
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(16, 1, 8, 8, generator=generator)
    with torch.no_grad():
        return model(images, mode='tensor')


def weights_of(path: Path) -> dict[str, Tensor]:
    return torch.load(path, map_location='cpu')['state_dict']


def run(process: Callable, *command: object) -> None:
    done = process(sys.executable, *command)
    assert done.returncode == 0, done.stderr


def assert_deployed(config_file, deploy_file, before, after):
    """The same answers, from convolutions with biases only."""
    wanted = logits(config_file, before)
    got = logits(deploy_file, after)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert wanted.std() > 0.1
    parts = ('.expand.', '.lora.', '.pair.', '.bn', 'running_', '.norm')
    assert not [key for key in after if any(part in key for part in parts)]
    spoilt = {**after, 'backbone.layer1.0.conv1.bias': torch.ones(8)}
    assert (logits(deploy_file, spoilt) - wanted).abs().max() > 1e-3


def test_reparameterize_takes_a_training_checkpoint(
    teacher_run, leaf, process, tmp_path
):
    """With its log history: our config registers what that consists of."""
    source, out = teacher_run / 'epoch_4.pth', tmp_path / 'deployed.pth'
    settings = dict(expansion=2, scaler=0)
    student = leaf('student', **settings)
    assert 'message_hub' in torch.load(source)
    run(process, REPARAMETERIZE, student, source, out)
    deploy = leaf('deploy', **settings, deploy=True)
    assert_deployed(student, deploy, weights_of(source), weights_of(out))
    model = get_model(Config.fromfile(deploy), pretrained=str(out)).eval()
    assert model.backbone.deploy and type(model.backbone.conv1) is nn.Conv2d


LORA = dict(kind='kxk_1x1', inner_norm=True, outer_norm=True, act=True)


@pytest.mark.parametrize(
    'settings',
    [
        dict(block='parallel', lora=LORA),
        dict(block='sequential'),
    ],
    ids=['parallel', 'sequential'],
)
def test_reparameterize_merges_what_merges(settings, leaf, run_here, tmp_path):
    """Of a file with nothing but weights."""
    student = leaf('student', expansion=2, scaler=0, **settings)
    model = randomise_norms(build(student))
    nn.init.normal_(model.head.fc.weight)
    before = model.state_dict()
    source, out = tmp_path / 'trained.pth', tmp_path / 'deployed.pth'
    torch.save(dict(meta={}, state_dict=before), source)
    run_here(REPARAMETERIZE, student, source, out)
    deploy = leaf('deploy', expansion=2, scaler=0, deploy=True, **settings)
    assert_deployed(student, deploy, before, weights_of(out))


def test_reparameterize_refuses_the_teacher(
    teacher_run, leaf, run_here, tmp_path
):
    out = tmp_path / 'deployed.pth'
    source = teacher_run / 'epoch_4.pth'
    with pytest.raises(RuntimeError, match=r'student.*backbone\.scaler=0 in'):
        run_here(REPARAMETERIZE, leaf('a', expansion=2), source, out)
    assert not out.exists()


def test_a_distillation_becomes_a_deployed_student_by_stock_tools(
    student_run, leaf, process, run_here, tmp_path
):
    """convert_kd_ckpt_to_student.py, then reparameterize_model.py.

    The first of them imports nothing of OpenMMLab, so since torch 2.6 it
    refuses any log history by itself; with ``reducenet_mm`` imported it
    takes it, and still executes nothing from the file.
    """
    source = student_run / 'epoch_2.pth'
    trained = weights_of(source)
    assert is_distill_state_dict(trained)
    assert all(
        key.startswith(('architecture.', 'teacher_overlay.'))
        for key in trained
    )
    command = (TO_STUDENT, source, '--out-path', tmp_path)
    alone = process(sys.executable, *command)
    assert alone.returncode != 0 and 'HistoryBuffer' in alone.stderr
    run(process, '-c', WITH_OUR_LOADER, *command)
    converted = weights_of(tmp_path / 'epoch_2_student.pth')
    student = leaf('student', expansion=2, scaler=0)
    plain = leaf(
        'plain', type='PlainResNet', _delete_=True, depth=8, in_channels=1
    )
    _, expected = split_state_dict(trained)
    wanted = logits(plain, expected)
    assert torch.equal(logits(student, converted), wanted)
    teacher = logits(leaf('teacher', expansion=2), converted)
    assert (teacher - wanted).abs().max() > 1e-3

    out = tmp_path / 'deployed.pth'
    run_here(REPARAMETERIZE, student, tmp_path / 'epoch_2_student.pth', out)
    deploy = leaf('deploy', expansion=2, scaler=0, deploy=True)
    assert_deployed(student, deploy, converted, weights_of(out))


@pytest.mark.parametrize('kind', ['ReduceNet', 'PlainResNet'])
def test_get_model_says_what_a_distillation_checkpoint_needs(
    student_run, leaf, config, kind
):
    plain = str(Path(config.teacher).with_name('plain8-w16_digits.py'))
    base = config.teacher if kind == 'ReduceNet' else plain
    cfg = Config.fromfile(leaf('plain', base=base))
    assert cfg.model.backbone.type == kind
    with pytest.raises(ValueError, match=r'architecture\..*student.s config'):
        get_model(cfg, pretrained=str(student_run / 'epoch_2.pth'))


def test_mmpretrains_test_tool_says_so_too(
    student_run, leaf, run_here, tmp_path
):
    command = (leaf('plain', expansion=2), student_run / 'epoch_2.pth')
    with pytest.raises(ValueError, match=r'nothing of it would be loaded'):
        run_here(
            stock_tool('mmpretrain', 'test.py'),
            *command,
            '--work-dir',
            tmp_path / 'run',
        )


@pytest.mark.parametrize('resume', [True, False])
def test_our_training_tool_says_so_too(
    student_run, leaf, load_tool, tmp_path, capsys, resume
):
    """Before the first step, so nothing is trained from scratch instead."""
    source = student_run / 'epoch_2.pth'
    how = [f'--resume={source}'] if resume else []
    how += ['--cfg-options', f'load_from={source}', 'train_cfg.max_epochs=1']
    work_dir = tmp_path / 'run'
    argv = [str(leaf('plain', expansion=2)), '--work-dir', str(work_dir)]
    with pytest.raises((ValueError, SystemExit)) as stopped:
        load_tool('train').main([*argv, *how])
    message = f'{stopped.value} {capsys.readouterr().err}'
    assert 'is a distillation checkpoint (keys architecture.*)' in message
    assert not list(work_dir.rglob('*.pth'))


def test_our_testing_tool_wants_the_form_of_the_model(
    teacher_run, leaf, load_tool, tmp_path, capsys
):
    source = teacher_run / 'epoch_4.pth'
    deploy = leaf('deploy', expansion=2, scaler=0, deploy=True)
    argv = [str(deploy), str(source), '--work-dir', str(tmp_path / 'run')]
    with pytest.raises(SystemExit):
        load_tool('test').main(argv)
    error = capsys.readouterr().err
    assert 'norms, and those of the model are folded' in error
    assert 'reparameterize_model.py' in error
