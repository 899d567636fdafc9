# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""tools/train.py: real runs on the digits, and each of its flags."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper

from reducenet_mm.engine import launch

TOOLS = Path(__file__).parents[2] / 'tools'
STEPS = 63
"""Steps of an epoch: 997 images in batches of 16."""


def read_scalars(work_dir: Path) -> list[dict]:
    """All logged scalars of the newest run in ``work_dir``."""
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in logs[-1].read_text().splitlines()]


def read_weights(work_dir: Path, epoch: int) -> dict[str, torch.Tensor]:
    path = work_dir / f'epoch_{epoch}.pth'
    return torch.load(path, map_location='cpu')['state_dict']


def parse(tool, *argv: str):
    return launch.parse_args(tool.build_parser(), argv)


def test_teacher_run_learns_and_saves_its_last_epoch(teacher_run):
    latest = (teacher_run / 'last_checkpoint').read_text()
    assert latest == str(teacher_run / 'epoch_4.pth')
    scalars = read_scalars(teacher_run)
    assert scalars[-1]['accuracy/top1'] > 50  # by chance: 10
    assert any('.expand.' in key for key in read_weights(teacher_run, 4))


def test_student_run_distils_and_freezes_the_classifier(
    teacher_run, student_run
):
    teacher = read_weights(teacher_run, 4)
    student = read_weights(student_run, 2)
    conv, fc = 'backbone.layer1.0.conv1.weight', 'head.fc.weight'
    assert torch.equal(student[f'architecture.{fc}'], teacher[fc])
    assert not torch.equal(student[f'architecture.{conv}'], teacher[conv])
    assert torch.equal(student[f'teacher_overlay.{conv}'], teacher[conv])
    last_step, validation = read_scalars(student_run)[-2:]
    assert last_step['loss'] == pytest.approx(
        last_step['student.loss'] + last_step['distill.loss_kl'], rel=1e-4
    )
    assert 'teacher/accuracy/top1' in validation


def test_resume_continues_after_the_last_epoch_without_the_teacher(
    tmp_path, load_tool, config, student_run
):
    work_dir = tmp_path / 'resumed'
    shutil.copytree(student_run, work_dir)
    (work_dir / 'last_checkpoint').write_text('')  # as a kill may leave it
    options = [*config.student_model, *config.schedule(3)]
    argv = [config.student, '--work-dir', str(work_dir), '--resume']
    teacher = f'model.teacher_ckpt={tmp_path / "deleted"}'
    load_tool('train').main([*argv, '--cfg-options', *options, teacher])
    steps = [line for line in read_scalars(work_dir) if 'epoch' in line]
    assert {line['epoch'] for line in steps} == {3}
    resumed = torch.load(work_dir / 'epoch_3.pth', map_location='cpu')
    assert resumed['meta']['iter'] == 3 * STEPS
    log = max(work_dir.glob('*/*.log')).read_text()
    newest = work_dir / 'epoch_2.pth'
    assert f'{newest} is the newest intact checkpoint' in log


def test_resume_from_a_file_of_another_model_is_refused(
    tmp_path, load_tool, config, teacher_run, capsys
):
    with pytest.raises(SystemExit) as stopped:
        load_tool('train').main(
            [config.student, '--work-dir', str(tmp_path / 'run')]
            + ['--resume', str(teacher_run / 'epoch_4.pth')]
            + ['--cfg-options', *config.student_model]
        )
    assert stopped.value.code == 2
    assert 'holds a plain network' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


def test_an_empty_name_to_resume_from_is_refused(
    tmp_path, load_tool, config, capsys
):
    """As of a shell variable that is not set."""
    with pytest.raises(SystemExit) as stopped:
        load_tool('train').main(
            [config.teacher, '--work-dir', str(tmp_path / 'run')]
            + ['--resume', '']
        )
    assert stopped.value.code == 2
    assert "--resume '' names no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


def test_weights_of_another_stage_are_refused_before_anything_is_written(
    tmp_path, load_tool, config, teacher_run, student_run, capsys
):
    teacher, student = teacher_run / 'epoch_4.pth', student_run / 'epoch_2.pth'
    ours = [*config.student_model, f'model.teacher_ckpt={teacher_run}']
    of_teacher = 'not one of a distillation stage.*model.teacher_ckpt.*'
    for argv, file, reason in (
        ([config.student], teacher, of_teacher + 'model.student_init'),
        ([config.teacher], student, 'this is a distillation checkpoint'),
        ([config.student], tmp_path / 'none.pth', 'is not there'),
    ):
        options = ours if argv == [config.student] else config.teacher_model
        with pytest.raises(SystemExit) as stopped:
            load_tool('train').main(
                [*argv, '--work-dir', str(tmp_path / 'run')]
                + ['--cfg-options', *options, f'load_from={file}']
            )
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        start = re.escape(f"train.py: error: load_from='{file}': ")
        assert re.match(f'{start}.*{reason}.*set load_from=None', line)
        assert not (tmp_path / 'run').exists()


def test_weights_of_the_same_stage_are_taken(
    tmp_path, load_tool, config, teacher_run, student_run
):
    tool = load_tool('train')
    own = tmp_path / 'own.pth'
    shutil.copy(student_run / 'epoch_2.pth', own)
    for name, file in (
        ('teacher', teacher_run / 'epoch_4.pth'),
        ('student', own),
    ):
        argv = [getattr(config, name), '--cfg-options', f'load_from={file}']
        argv += getattr(config, f'{name}_model')
        if name == 'student':
            argv.append(f'model.teacher_ckpt={teacher_run}')
        assert tool.prepare(parse(tool, *argv)).load_from == str(file)


def test_resume_without_a_checkpoint_starts_afresh(
    tmp_path, load_tool, config
):
    """A fresh start needs the teacher, so its absence is reported."""
    tool = load_tool('train')
    args = parse(tool, config.student, '--resume', '--work-dir', str(tmp_path))
    args.cfg_options = {'model.teacher_ckpt': str(tmp_path / 'none')}
    with pytest.raises(FileNotFoundError, match=r'model\.teacher_ckpt'):
        tool.prepare(args)


def test_no_validate_trains_without_validation(tmp_path, load_tool, config):
    load_tool('train').main(
        [config.teacher, '--work-dir', str(tmp_path), '--no-validate']
        + ['--cfg-options', *config.teacher_model, *config.schedule(1)]
    )
    assert (tmp_path / 'epoch_1.pth').is_file()
    scalars = read_scalars(tmp_path)
    assert scalars
    assert not any('accuracy/top1' in line for line in scalars)


@pytest.mark.skipif(get_device() != 'cpu', reason='it is refused on CPUs')
def test_amp_without_a_gpu_is_refused(tmp_path, load_tool, config, capsys):
    work_dir = tmp_path / 'run'
    with pytest.raises(SystemExit) as stopped:
        load_tool('train').main(
            [config.teacher, '--amp', '--work-dir', str(work_dir)]
        )
    assert stopped.value.code == 2
    assert 'needs a GPU' in capsys.readouterr().err
    assert not work_dir.exists()


@pytest.mark.skipif(get_device() == 'cpu', reason='needs a GPU')
def test_amp_trains_with_a_scaled_loss(tmp_path, load_tool, config):
    load_tool('train').main(
        [config.teacher, '--amp', '--work-dir', str(tmp_path)]
        + ['--cfg-options', *config.teacher_model, *config.schedule(1)]
    )
    saved = torch.load(tmp_path / 'epoch_1.pth', map_location='cpu')
    assert saved['optimizer']['loss_scaler']['scale'] > 1


def test_amp_also_reaches_a_config_without_wrapper_type(
    tmp_path, load_tool, monkeypatch
):
    tool = load_tool('train')
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=1))))
    args = parse(tool, 'config.py', '--amp')
    monkeypatch.setitem(
        tool.apply_args.__globals__, 'get_device', lambda: 'cuda'
    )
    tool.apply_args(cfg, args)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'


@pytest.mark.skipif(get_device() != 'cpu', reason='it is refused on CPUs')
@pytest.mark.parametrize(
    'wrapper', [AmpOptimWrapper, 'mmengine.AmpOptimWrapper']
)
def test_amp_of_a_config_without_a_gpu_is_refused(load_tool, wrapper):
    tool = load_tool('train')
    cfg = Config(dict(optim_wrapper=dict(type=wrapper)))
    with pytest.raises(ValueError, match='AmpOptimWrapper.*needs a GPU'):
        tool.apply_args(cfg, parse(tool, 'config.py'))


def test_auto_scale_lr(load_tool):
    tool = load_tool('train')
    args = parse(tool, 'config.py', '--auto-scale-lr')
    with pytest.raises(ValueError, match='base_batch_size'):
        tool.apply_args(Config(dict(optim_wrapper=dict())), args)
    cfg = Config(
        dict(optim_wrapper=dict(), auto_scale_lr=dict(base_batch_size=64))
    )
    tool.apply_args(cfg, args)
    assert cfg.auto_scale_lr == dict(base_batch_size=64, enable=True)


@pytest.mark.parametrize('name', ['train', 'test'])
def test_every_flag_of_mmpretrain_is_there(load_tool, name):
    mim = Path(mmpretrain.__file__).parent / '.mim' / 'tools'
    theirs = set(re.findall(r"'(--[\w-]+)'", (mim / f'{name}.py').read_text()))
    assert '--cfg-options' in theirs
    ours = load_tool(name).build_parser()._option_string_actions
    assert theirs - set(ours) == set()


def test_a_usage_error_is_one_line_and_status_2(tmp_path, process, config):
    work_dir = tmp_path / 'run'
    tool = Path(__file__).parents[2] / 'tools' / 'train.py'
    done = process(
        *(sys.executable, '-W', 'ignore', tool, config.teacher),
        *('--work-dir', work_dir),
        *('--cfg-options', 'model.backbone.expanson=2'),
    )
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if 'error' in line)
    assert line.startswith(
        'train.py: error: unknown key model.backbone.expanson=2. '
        "Did you mean 'expansion'?"
    )
    assert not work_dir.exists()


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('optim_wrapper.optimizer.lr=abc', 'optim_wrapper: '),
        ('optim_wrapper.optimizer.momentun=1', "mean 'momentum'"),
        ('train_dataloader=5', 'train_dataloader must be a dict, got 5'),
        ('val_dataloader=None', 'val_dataloader is not set, but val_cfg'),
        ('train_dataloder.batch_size=5', "mean 'train_dataloader'"),
        ('load_from=5', 'load_from must be the path'),
        ('auto_scale_lr=True', 'auto_scale_lr must be a dict, got True'),
        ('default_hooks.checkpoint=5', 'default_hooks.checkpoint must be a'),
        ('model.architecture=5', 'model: architecture should be a'),
        (
            'auto_scale_lr.enable=True auto_scale_lr.base_batch_size=0',
            '`auto_scale_lr.base_batch_size` must be an integer >= 1',
        ),
        (
            'optim_wrapper.paramwise_cfg.roles.classifier=0.1',
            'optim_wrapper.paramwise_cfg.roles.classifier=0.1, but all',
        ),
    ],
)
def test_what_is_wrong_beside_the_model_is_told_before_anything_is_written(
    tmp_path, load_tool, config, teacher_run, capsys, option, message
):
    options = [*config.student_model, f'model.teacher_ckpt={teacher_run}']
    with pytest.raises(SystemExit) as stopped:
        load_tool('train').main(
            [config.student, '--work-dir', str(tmp_path / 'run')]
            + ['--cfg-options', *options, *option.split()]
        )
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith('train.py: error: ')
    assert message in line
    assert not (tmp_path / 'run').exists()


def test_a_training_set_of_no_batch_is_told(
    tmp_path, run_here, config, capsys
):
    """997 images; before the first iteration, and in one line."""
    with pytest.raises(SystemExit) as stopped:
        run_here(
            *(TOOLS / 'train.py', config.teacher, '--work-dir', tmp_path),
            *('--cfg-options', *config.teacher_model),
            *('train_dataloader.batch_size=998',),
            'train_dataloader.drop_last=True',
        )
    assert stopped.value.code == 2
    assert (
        'error: train_dataloader has 997 images for each process, which are '
        'no batch of batch_size=998 with drop_last=True'
    ) in capsys.readouterr().err
