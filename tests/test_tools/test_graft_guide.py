# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""``docs/graft_your_backbone.md`` does what it says, line by line."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor

from reducenet_mm.models.checkpoint_views import split_state_dict
from reducenet_mm.models.supernet import hosts, is_branch_key, set_scaler

ROOT = Path(__file__).parents[2]
PAGE = (
    (ROOT / 'docs/graft_your_backbone.md')
    .read_text(encoding='utf-8')
    .replace('epoch_30', 'epoch_1')
)
"""With the name of the checkpoint after one epoch."""
FILE = re.compile(
    r'^`(my_\w+\.py)`(?:(?!```).)*```python\n(.*?)```',
    re.S | re.M,
)
SHORT = {
    'train': [
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        'param_scheduler.periods=[1]',
        'optim_wrapper.optimizer.lr=0.3',
    ],
    'benchmark': ['--rounds', '2', '--modes', 'eager', '--batch-sizes', '2'],
    'benchmark_step': ['--repeats', '2', '--batch', '4'],
}
"""Options by tool which make it short."""


def section(heading: str) -> str:
    return PAGE.split(f'\n## {heading}\n')[1].split('\n## ')[0]


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf'```{language}\n(.*?)```', text, re.DOTALL)


def run(command: str) -> None:
    """Run a line of the page, made short, in this process."""
    words = shlex.split(command)
    assert words[0] == 'python' and words[1].startswith('tools/')
    name = Path(words[1]).stem
    if name == 'train' and '--cfg-options' not in words:
        words.append('--cfg-options')
    DefaultScope._instance_dict.clear()  # as a process of its own has none
    tool = runpy.run_path(str(ROOT / words[1]))
    tool['main']([*words[2:], *SHORT.get(name, [])])


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the page's files are, after all of its commands."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('guide')
    (folder / 'configs').symlink_to(ROOT / 'configs')
    files = FILE.findall(PAGE)
    assert len(files) == 5
    for name, text in files:
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in blocks('shell', PAGE):
            for command in block.replace('\\\n', ' ').splitlines():
                run(command)
        yield folder


def checkpoint(folder: Path, name: str) -> dict[str, Tensor]:
    path = folder / 'work_dirs' / name / 'epoch_1.pth'
    return torch.load(path)['state_dict']


def build(cfg: Config) -> Any:
    """Build a config's classifier in eval mode."""
    cfg.model.data_preprocessor = cfg.data_preprocessor
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(cfg.model).eval()


def images() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(4, 1, 8, 8, generator=generator)


@torch.no_grad()
def test_the_supernet_begins_as_the_trained_network(folder: Path) -> None:
    stock = build(Config.fromfile(folder / 'my_net.py'))
    before = checkpoint(folder, 'my_net')
    stock.load_state_dict(before, strict=True)
    supernet = build(Config.fromfile(folder / 'my_supernet.py'))
    supernet.init_weights()
    missing, unexpected = supernet.load_state_dict(before, strict=False)
    assert missing and all(map(is_branch_key, missing)) and not unexpected
    assert torch.equal(supernet(images()), stock(images()))

    (log,) = (folder / 'work_dirs/my_supernet').glob('*/*.log')
    loaded = 'Load checkpoint from work_dirs/my_net/epoch_1.pth'
    assert loaded in log.read_text()
    supernet.load_state_dict(checkpoint(folder, 'my_supernet'), strict=True)
    teacher = supernet(images())
    set_scaler(supernet, 0.0)
    assert (teacher - supernet(images())).abs().max() > 1e-2


@pytest.mark.parametrize('name', ['my_student', 'my_lora'])
@torch.no_grad()
def test_what_comes_back_is_the_network_that_went_in(
    name: str, folder: Path
) -> None:
    text = section('What you get back')
    if name == 'my_lora':
        text = text.replace('student/student.pth', 'student_lora/student.pth')
    space: dict[str, Any] = {}
    exec(*blocks('python', text), space)  # loads strictly
    stock, student = space['model'].eval(), space['student']
    assert student.keys() == checkpoint(folder, 'my_net').keys()

    exported = 'student' if name == 'my_student' else 'student_lora'
    plain = Config.fromfile(folder / exported / 'student.py')
    mine = Config.fromfile(folder / 'my_net.py')
    assert plain.model.backbone == mine.model.backbone

    supernet = build_architecture(folder, name)
    answer = stock(images())
    assert answer.std() > 0.01
    torch.testing.assert_close(supernet(images()), answer)
    set_scaler(supernet, 1.0)
    assert (supernet(images()) - answer).abs().max() > 1e-3


def build_architecture(folder: Path, name: str) -> Any:
    """Return the supernet of a distillation at scaler 0, with its weights."""
    cfg = Config.fromfile(folder / f'{name}.py')
    cfg.model = cfg.model.architecture
    supernet = build(cfg)
    prefix = 'architecture.'
    supernet.load_state_dict(
        {
            key.removeprefix(prefix): value
            for key, value in checkpoint(folder, name).items()
            if key.startswith(prefix)
        }
    )
    set_scaler(supernet, 0.0)
    return supernet


def test_only_lora_trained_in_the_stage_with_it(folder: Path) -> None:
    _, before = split_state_dict(checkpoint(folder, 'my_student'))
    _, after = split_state_dict(checkpoint(folder, 'my_lora'))
    new = after.keys() - before.keys()
    assert {key.rpartition('.lora.')[2] for key in new} == {'down', 'up'}
    assert any(after[key].any() for key in new if key.endswith('up'))
    for key, value in before.items():
        assert torch.equal(after[key], value), key
    merged = torch.load(folder / 'student_lora/student.pth')['state_dict']
    key = 'backbone.layer4.1.conv1.weight'
    assert not torch.equal(merged[key], before[key])


def test_pretrained_and_frozen_stages_are_the_hosts(folder: Path) -> None:
    cfg = Config.fromfile(folder / 'my_pretrained.py')
    model = build(cfg)
    model.init_weights()
    for key, value in checkpoint(folder, 'my_net').items():
        if key.startswith('backbone.'):
            assert torch.equal(model.state_dict()[key], value), key
    names = [name.split('.')[1] for name, _ in hosts(model)]
    assert names == [f'layer{stage}' for stage in (2, 2, 3, 3, 4, 4)]
    trains = {
        name.split('.')[1]
        for name, param in model.named_parameters()
        if param.requires_grad and name.startswith('backbone.')
    }
    assert trains == {'layer2', 'layer3', 'layer4'}


ROWS = re.findall(
    r'^\| `([^|]+)` \| `([^|]+)` \| ', section('Which convolutions'), re.M
)
MEANT = {
    "'block_first_conv'": lambda name, conv: name.endswith('.conv1'),
    "'depthwise'": lambda name, conv: conv.groups == conv.in_channels > 1,
    "'pointwise'": lambda name, conv: (
        conv.kernel_size == (1, 1) and conv.groups == 1
    ),
    r"r'layer[34]\.\d\.conv2'": lambda name, conv: (
        conv.kernel_size == (3, 3) and name.startswith(('layer3', 'layer4'))
    ),
    r"['depthwise', r'conv2\.conv']": lambda name, conv: (
        conv.groups == conv.in_channels or name == 'conv2.conv'
    ),
}


@pytest.mark.parametrize(('targets', 'backbone'), ROWS)
def test_targets_mean_what_the_table_says(targets: str, backbone: str) -> None:
    cfg = dict(
        type='GraftedBackbone',
        backbone=dict(eval(backbone), _scope_='mmpretrain'),
        targets=eval(targets),
    )
    found = dict(hosts(MODELS.build(cfg)))
    assert len(found) >= 8
    assert all(MEANT[targets](*item) for item in found.items())
    assert {one for one, _ in ROWS} == MEANT.keys()


REFUSED = re.findall(
    r'`(dict\(backbone=[^`]+)`:\n\n```text\n(.*?)```',
    section('What is refused'),
    re.DOTALL,
)


@pytest.mark.parametrize(('settings', 'message'), REFUSED)
def test_what_is_refused_reads_so(settings: str, message: str) -> None:
    assert len(REFUSED) == 2
    cfg = dict(eval(settings), type='GraftedBackbone', _scope_='mmpretrain')
    with pytest.raises(ValueError) as caught:
        MODELS.build(cfg)
    assert str(caught.value).split() == message.split()


def test_the_costs_are_those_of_the_stock_network_too(folder: Path) -> None:
    inference = json.loads((folder / 'inference.json').read_text())
    assert inference['settings']['plain'] == 'ResNet_CIFAR'
    ratios = inference['results']['eager']['2']['ratios']
    assert 'deployed/plain' in ratios
    steps = json.loads((folder / 'step.json').read_text())['ratios']
    wanted = ('scaler_1', 'scaler_0', 'ungrafted', 'supernet')
    assert {f'{name}/plain' for name in wanted} <= steps.keys()


def test_it_works_in_python_too(folder: Path) -> None:
    (text,) = blocks('python', section('In Python'))
    graft, ungraft = text.split('ungraft(model)')[0], 'ungraft(model)'
    space: dict[str, Any] = {}
    exec(graft, space)
    names = [name for name, _ in hosts(space['model'])]
    assert names == [
        f'backbone.layer{stage}.{block}.conv1'
        for stage in (3, 4)
        for block in (0, 1)
    ]
    assert all(host.scaler == 0 for _, host in hosts(space['model']))
    exec(ungraft, space)
    state = space['model'].state_dict()
    before = checkpoint(folder, 'my_net')
    assert state.keys() == before.keys()
    assert all(torch.equal(state[key], before[key]) for key in before)
