# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A converted file answers as the published network, in both views."""

from __future__ import annotations

import hashlib
import os
import runpy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from reducenet_mm import __version__, set_scaler
from reducenet_mm.export.published import convert_published
from tests.published import Published

EXACT = dict(rtol=0, atol=1e-5)
"""Of float32 outputs whose largest is about 1."""


def save(path: Path, network: nn.Module) -> Path:
    torch.save(network.state_dict(), path)
    return path


def load(path: Path) -> nn.Module:
    """Build the network of the written config and fill it strictly."""
    cfg = runpy.run_path(str(path.with_suffix('.py')))
    preprocessor = cfg['data_preprocessor']
    model = MODELS.build(dict(cfg['model'], data_preprocessor=preprocessor))
    weights = torch.load(path, weights_only=True)['state_dict']
    model.load_state_dict(weights, strict=True)
    return model.eval().requires_grad_(False)


def images() -> Tensor:
    return torch.rand(2, 3, 16, 16)


SIZES = {
    '20-1': dict(lora='1x1'),
    '20-1-june': dict(lora='kxk_1x1'),
    '20-2-e3': dict(width=32, expansion=3, lora='kxk_1x1'),
    '56-1': dict(blocks=9),
    '56-narrow-e4-100': dict(blocks=9, width=4, expansion=4, classes=100),
    'parallel-20-1': dict(block='parallel'),
    'parallel-56-2-e2': dict(
        block='parallel', blocks=9, width=8, expansion=2, classes=100
    ),
    'sequential-20-1': dict(block='sequential'),
    'sequential-56-e2': dict(
        block='sequential', blocks=9, width=8, expansion=2, classes=7
    ),
}


@pytest.mark.parametrize('sizes', SIZES.values(), ids=SIZES)
def test_both_networks_answer_as_published(sizes, tmp_path):
    published = Published(**sizes)
    source = save(tmp_path / 'source.pth', published)
    model = load(convert_published(source, tmp_path / 'ours.pth').weights)
    x = images()
    answers = {}
    for scaler in (1.0, 0.0):
        set_scaler(model, scaler)
        answers[scaler] = published.set_gates(scaler)(x)
        torch.testing.assert_close(model(x), answers[scaler], **EXACT)
    # Neither trivial, nor one and the same.
    assert answers[1.0].std(0).max() > 1e-3
    assert (answers[1.0] - answers[0.0]).abs().max() > 1e-2


@pytest.mark.parametrize('kind', ['1x1', 'kxk_1x1'])
def test_a_lora_that_is_on_belongs_to_the_student(kind, tmp_path):
    published = Published(lora=kind, expansion=2).set_gates(0.0, 1.0)
    source = save(tmp_path / 'source.pth', published)
    result = convert_published(source, tmp_path / 'ours.pth')
    assert result.network.lora['kind'] == kind
    model, x = load(result.weights), images()
    student = published(x)
    torch.testing.assert_close(model(x), student, **EXACT)
    set_scaler(model, 1.0)
    teacher = published.set_gates(1.0, 0.0)(x)
    torch.testing.assert_close(model(x), teacher, **EXACT)
    without = published.set_gates(0.0, 0.0)(x)
    assert (without - student).abs().max() > 1e-2


@pytest.mark.parametrize(
    'first, second',
    [
        ('conv1.weight', 'conv1.expand.conv1.weight'),
        ('bn1.weight', 'bn2.weight'),
        ('bn1.running_var', 'conv1.expand.norm1.running_var'),
    ],
)
def test_one_tensor_in_another_place_would_show(first, second, tmp_path):
    published = Published(blocks=1, width=8)
    source = save(tmp_path / 'source.pth', published)
    model = load(convert_published(source, tmp_path / 'ours.pth').weights)
    x = images()
    torch.testing.assert_close(model(x), published(x), **EXACT)
    state = model.state_dict()
    keys = [f'backbone.layer3.0.{name}' for name in (first, second)]
    values = [state[key].clone() for key in keys]
    for key, value in zip(keys, reversed(values)):
        state[key].copy_(value)
    assert (model(x) - published(x)).abs().max() > 1e-3


@pytest.mark.parametrize('scaler', [1.0, 0.0])
def test_the_config_says_what_the_file_was(scaler, tmp_path):
    published = Published(blocks=1, width=4, classes=100).set_gates(scaler)
    source = save(tmp_path / 'lr_0.1_student.pth', published)
    result = convert_published(source, tmp_path / 'new' / 'lr_0.1.pth')
    assert result.config == tmp_path / 'new' / 'lr_0.1.py'
    cfg = Config.fromfile(result.config)
    assert cfg.model.backbone.scaler == scaler
    assert cfg.test_dataloader.dataset.type == 'CIFAR100'
    model = load(result.weights)
    preprocessor = dict(mean=[0.0] * 3, std=[255.0] * 3, to_rgb=False)
    assert cfg.data_preprocessor == dict(preprocessor, num_classes=100)
    # As published, pixels are divided by 255 and nothing else.
    white = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    white[:, 2] = 51
    inputs = model.data_preprocessor(dict(inputs=white))['inputs']
    assert inputs[0, :, 0, 0].tolist() == pytest.approx([1.0, 1.0, 0.2])
    meta = torch.load(result.weights, weights_only=True)['meta']
    assert meta['provenance'] == dict(
        source='ohmydroid/reducenet',
        checkpoint='lr_0.1_student.pth',
        sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
        epoch=None,
        scaler=scaler,
        unused_lora='1x1',
        reducenet_mm=__version__,
    )


def test_a_network_of_no_published_data_set_has_no_data(tmp_path):
    source = save(tmp_path / 'a.pth', Published(blocks=1, width=4, classes=7))
    result = convert_published(source, tmp_path / 'b.pth')
    cfg = Config.fromfile(result.config)
    assert cfg.model.head.num_classes == 7
    assert cfg.default_scope == 'mmpretrain'
    assert 'test_dataloader' not in cfg


def test_a_training_state_of_several_gpus_is_unwrapped(tmp_path):
    published = Published(blocks=1, width=4, block='parallel')
    source = tmp_path / 'ckpt.pth'
    state = {f'module.{k}': v for k, v in published.state_dict().items()}
    torch.save(dict(net=state, acc=12.5, epoch=3), source)
    result = convert_published(source, tmp_path / 'ours.pth')
    x = images()
    torch.testing.assert_close(load(result.weights)(x), published(x), **EXACT)
    meta = torch.load(result.weights, weights_only=True)['meta']
    assert meta['provenance']['epoch'] == 3


class Code:
    """Pickles as a call that makes a folder when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_a_file_that_holds_code_is_refused_and_not_run(tmp_path):
    source, trace = tmp_path / 'a.pth', tmp_path / 'executed'
    torch.save(dict(net=Code(trace)), source)
    with pytest.raises(ValueError, match=r'a\.pth.* was refused'):
        convert_published(source, tmp_path / 'b.pth')
    assert list(tmp_path.iterdir()) == [source]


def test_a_truncated_file_is_refused(tmp_path):
    source = save(tmp_path / 'a.pth', Published(blocks=1, width=4))
    source.write_bytes(source.read_bytes()[:-1000])
    with pytest.raises(ValueError, match='truncated or damaged'):
        convert_published(source, tmp_path / 'b.pth')
    assert list(tmp_path.iterdir()) == [source]


def test_a_depth_beyond_the_table_is_refused(tmp_path):
    network = Published(blocks=1, width=1)
    state = dict(network.state_dict())
    for stage in (1, 2, 3):
        plain = {
            key: value
            for key, value in state.items()
            if key.startswith(f'layer{stage}.0.') and 'shortcut' not in key
        }
        for block in range(1, 19):
            for key, value in plain.items():
                name = key.replace('.0.', f'.{block}.', 1)
                wide = (2 ** (stage - 1), 2 ** (stage - 1), *value.shape[2:])
                state[name] = torch.ones(wide) if value.ndim == 4 else value
    source = tmp_path / 'a.pth'
    torch.save(state, source)
    with pytest.raises(ValueError, match=r'6n[+]2 from 8 to 110 .*, got 116'):
        convert_published(source, tmp_path / 'b.pth')
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize('there', ['ours.pth', 'ours.py'])
def test_no_file_is_overwritten(there, tmp_path):
    source = save(tmp_path / 'a.pth', Published(blocks=1, width=4))
    (tmp_path / there).write_text('mine')
    with pytest.raises(ValueError, match=f'{there}.* is not overwritten'):
        convert_published(source, tmp_path / 'ours.pth')
    assert (tmp_path / there).read_text() == 'mine'
    assert len(list(tmp_path.iterdir())) == 2


def test_paths_are_checked_first(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.pth.* is not there'):
        convert_published(tmp_path / 'none.pth', tmp_path / 'b.pth')
    source = save(tmp_path / 'a.pth', Published(blocks=1, width=4))
    with pytest.raises(ValueError, match=r'DST must end in \.pth, got .*out'):
        convert_published(source, tmp_path / 'out')
    with pytest.raises(NotADirectoryError, match=r"a\.pth' is a file; "):
        convert_published(source, source / 'b.pth')
    with pytest.raises(ValueError, match=r'a\.pth.* is not overwritten'):
        convert_published(source, source)
