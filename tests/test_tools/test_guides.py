# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The guides in docs/ do what they say, file by file, command by command."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmpretrain.structures import DataSample
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.registry import MODELS

import reducenet_mm.models.algorithms as ours
from reducenet_mm.models.checkpoint_views import split_state_dict
from reducenet_mm.models.supernet import is_branch_key

ROOT = Path(__file__).parents[2]
FILE = re.compile(r'`(\w+\.py)`:\n\n```python\n(.*?)```', re.DOTALL)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with the files of the guide beside the project's configs."""
    folder = tmp_path_factory.mktemp('guide')
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    guide = (ROOT / 'docs/own_block.md').read_text(encoding='utf-8')
    for name, text in FILE.findall(guide):
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope='module')
def trained(folder):
    """Run the commands of the guide, for one epoch each."""
    guide = (ROOT / 'docs/own_block.md').read_text(encoding='utf-8')
    shell = re.search(r'```shell\n(.*?)```', guide, re.DOTALL)
    commands = shell[1].replace('\\\n', ' ').splitlines()
    assert commands[0].startswith('export PYTHONPATH=')
    for command in commands[1:]:
        words = command.replace('epoch_30', 'epoch_1').split()
        options = ['--cfg-options', 'train_cfg.max_epochs=1']
        options += ['param_scheduler.periods=[1]']
        done = subprocess.run(
            [
                sys.executable,
                *words[1:],
                *(options if 'train.py' in command else []),
            ],
            cwd=folder,
            env={**os.environ, 'PYTHONPATH': f'{folder}:{ROOT}'},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_guides_block_trains_and_leaves_a_plain_network(trained):
    path = trained / 'work_dirs/my_student/epoch_1.pth'
    checkpoint = torch.load(path, weights_only=False)
    teacher, student = split_state_dict(checkpoint['state_dict'])
    key = 'backbone.layer1.0.conv1.expand.conv1.1.weight'
    assert teacher[key].shape == (64, 1, 3, 3)  # depthwise
    shipped = torch.load(trained / 'student/student.pth', weights_only=True)
    assert set(shipped['state_dict']) == set(student)
    assert not any('expand' in key for key in student)
    plain = Config.fromfile(trained / 'student/student.py')
    assert plain.model.backbone.type == 'StudentResNet_CIFAR'


BOTH_BRANCHES = """
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from reducenet_mm import set_scaler
cfg = Config.fromfile('my_teacher.py').model.backbone
cfg.update(lora=dict(kind='1x1'), zero_init_expand=True)
cfg.update(zero_init_residual=False)  # else no block adds anything
torch.manual_seed(0)
net = MODELS.build(cfg)
net.init_weights()
net.eval()
images = torch.randn(2, 1, 8, 8)
def differs():
    found = []
    for scaler in (1.0, 0.0):
        set_scaler(net, scaler)
        found.append(net(images)[0])
    return not torch.equal(*found)
host = net.layer1[0].conv1
print(type(host).__name__, type(host.lora).__name__, differs())
torch.nn.init.ones_(host.expand.norm2.weight)
print(differs())
"""


def test_the_guides_block_takes_all_settings_of_branches(folder):
    done = subprocess.run(
        [sys.executable, '-c', BOTH_BRANCHES],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': f'{folder}:{ROOT}'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()[-2:]
    # At zero it starts as the student, and not by being left out.
    assert first == 'SeparableConv2d PointLora False'
    assert second == 'True'


def test_the_guides_loss_is_what_trains_the_student(trained):
    (log,) = (trained / 'work_dirs/my_student').glob('*/*.log')
    (step,) = re.findall(r'Epoch\(train\) .* loss: .*', log.read_text())
    found = dict(re.findall(r'(\S*loss\S*): ([\d.]+)', step))
    assert set(found) == {'loss', 'student.loss', 'distill.loss_distance'}
    parts = float(found['student.loss']) + float(
        found['distill.loss_distance']
    )
    assert float(found['distill.loss_distance']) > 0
    assert float(found['loss']) == pytest.approx(parts, abs=2e-4)


def test_the_migration_page_names_arguments_that_there_are():
    page = (ROOT / 'docs/from_single_teacher.md').read_text(encoding='utf-8')
    table = [line.split('|') for line in page.splitlines() if '|' in line]
    for column, algorithm in (
        (1, SingleTeacherDistill),
        (2, ours.SupernetDistill),
    ):
        known = {
            name
            for one in algorithm.__mro__
            for name in inspect.signature(one.__init__).parameters
        }
        named = {
            name
            for row in table[2:]
            for name in re.findall(r'`([a-z]+_?[a-z_]+)\b(?!\.)', row[column])
        }
        assert len(named) > 5
        assert named - {'architecture'} <= known | {'loss_weight'}


DIGITS = ROOT / 'configs/reducenet/digits'
SOFT_LABELS = ROOT / 'configs/_base_/distill/soft_labels.py'
MY_TEACHER = 'work_dirs/my_teacher/epoch_30.pth'


@pytest.fixture
def migrated(tmp_path, monkeypatch):
    """``migrated(sign, before)``: one side of the page's diff, as a config.

    Its teacher is that of the digits.
    """
    monkeypatch.chdir(tmp_path)
    Path(MY_TEACHER).parent.mkdir(parents=True)
    teacher = MODELS.build(network('reducenet8-w16-e4_digits_teacher'))
    torch.nn.init.normal_(teacher.head.fc.weight)
    state = dict(state_dict=teacher.state_dict())
    torch.save(state, MY_TEACHER)
    page = (ROOT / 'docs/from_single_teacher.md').read_text(encoding='utf-8')
    lines = re.search(r'```diff\n(.*?)```', page, re.DOTALL)[1].splitlines()

    def config(sign, before):
        kept = [line[1:] for line in lines if line[0] in f' {sign}']
        assert 2 < len(kept) < len(lines)
        text = '\n'.join([before, *kept, ''])
        Path('mine.py').write_text(text.replace('...)', '**rest.pop(0))'))
        return Config.fromfile('mine.py')

    return config


def network(name):
    model = Config.fromfile(DIGITS / f'{name}.py').model.to_dict()
    return dict(model, _scope_='mmpretrain')


def losses_of(algorithm):
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    algorithm.train()
    return algorithm.loss(torch.randn(4, 1, 8, 8), samples)


def test_the_migrated_config_distils_into_the_supernet(migrated):
    bases = [f'{DIGITS}/reducenet8-w16-e4_digits_teacher.py', SOFT_LABELS]
    cfg = migrated('+', f'_base_ = {list(map(str, bases))}')
    algorithm = MODELS.build(cfg.model)
    algorithm.init_weights()
    assert type(algorithm) is ours.SupernetDistill
    named = dict(algorithm.architecture.named_parameters())
    frozen = {name for name, p in named.items() if not p.requires_grad}
    branches = set(filter(is_branch_key, named))
    assert branches
    assert frozen == {'head.fc.weight', 'head.fc.bias'} | branches
    (teacher,) = torch.load(MY_TEACHER).values()
    for name, param in named.items():  # reuse.inherit='all'
        assert torch.equal(param, teacher[name]), name
    losses = losses_of(algorithm)
    assert losses.keys() == {'student.loss', 'distill.loss_kl'}
    assert min(losses.values()) > 1e-3
    assert [hook.type for hook in cfg.custom_hooks] == ['SupernetSwitchHook']
    optim = build_optim_wrapper(algorithm, cfg.optim_wrapper)
    held = {id(p) for g in optim.param_groups for p in g['params']}
    assert held == {id(p) for n, p in named.items() if n not in frozen}


def test_the_config_before_is_one_of_mmrazor(migrated):
    networks = [
        network('plain8-w16_digits'),
        network('reducenet8-w16-e4_digits_teacher'),
    ]
    for one in networks:
        assert one.pop('type') == 'ImageClassifier'
    cfg = migrated('-', f'_base_ = {str(SOFT_LABELS)!r}\nrest = {networks}')
    algorithm = MODELS.build(cfg.model)
    assert type(algorithm) is SingleTeacherDistill
    (teacher,) = torch.load(MY_TEACHER).values()
    weight = algorithm.teacher.head.fc.weight
    assert torch.equal(weight, teacher['head.fc.weight'])
    losses = losses_of(algorithm)
    assert losses.keys() == {'student.loss', 'distill.loss_kl'}
    assert min(losses.values()) > 1e-3
