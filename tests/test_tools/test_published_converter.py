# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The converter of published checkpoints, and what our tools make of it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import DATASETS, MODELS
from torch import Tensor

from tests.published import Published, drop
from tests.tiny_data import use_tiny_data


@pytest.fixture
def convert(load_tool: Callable[[str], SimpleNamespace]) -> Callable:
    return load_tool('model_converters/published_to_reducenet').main


@pytest.fixture
def student(tmp_path: Path) -> tuple[Published, Path]:
    """A published student whose lora branches are on, and its file."""
    network = Published(width=8, lora='kxk_1x1').set_gates(0.0, 1.0)
    path = tmp_path / 'published.pth'
    torch.save(network.state_dict(), path)
    return network, path


def test_the_tool_says_what_it_found(student, convert, tmp_path, capsys):
    _, source = student
    convert([str(source), str(tmp_path / 'ours.pth')])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'ours.pth',
        'ours.py',
        'published.pth',
    ]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1
    assert printed[0].endswith(
        'ours.py: block postsum, depth 20, base_channels 8, expansion 1, '
        '10 classes; saved as the student (scaler 0); lora: part of the '
        'student (kind kxk_1x1)'
    )


@pytest.mark.parametrize(
    'kept, words',
    [
        (dict(lora='1x1'), 'left out, as its gate is 0 (kind 1x1)'),
        (dict(block='parallel'), 'none'),
    ],
)
def test_the_tool_says_what_became_of_lora(
    kept, words, convert, tmp_path, capsys
):
    network = Published(blocks=1, width=4, **kept)
    torch.save(network.state_dict(), tmp_path / 'a.pth')
    convert([str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth')])
    printed = capsys.readouterr().out.strip()
    assert printed.endswith(f'teacher (scaler 1); lora: {words}')


def test_a_refusal_is_one_line_and_nothing_is_written(
    convert, tmp_path, capsys
):
    state = dict(Published(blocks=1, width=4).state_dict())
    drop(state, '.branch1.4.')
    source = tmp_path / 'a.pth'
    torch.save(state, source)
    with pytest.raises(SystemExit) as stopped:
        convert([str(source), str(tmp_path / 'new' / 'b.pth')])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert error.startswith(f"published_to_reducenet.py: error: '{source}'")
    assert '2023-06-07' in error
    assert list(tmp_path.iterdir()) == [source]


def tiny_images(config: Path) -> Tensor:
    """Return the images of the config's test set, (3, 3, 32, 32)."""
    items = DATASETS.build(Config.fromfile(config).test_dataloader.dataset)
    return torch.stack([item['inputs'] for item in items]).float()


def test_our_tools_take_the_converted_file(
    student, convert, load_tool, tmp_path, capsys
):
    """``test.py`` predicts, ``export.py`` merges, as the published network."""
    network, source = student
    weights = tmp_path / 'ours.pth'
    convert([str(source), str(weights)])
    cfg = use_tiny_data(Config.fromfile(tmp_path / 'ours.py'), tmp_path)
    cfg.custom_imports.imports.append('tests.tiny_data')
    config = tmp_path / 'tiny.py'
    cfg.dump(config)
    images = tiny_images(config)
    logits = network(images / 255)

    out = tmp_path / 'predictions.pkl'
    load_tool('test').main(
        [str(config), str(weights), '--out', str(out)]
        + ['--work-dir', str(tmp_path / 'run')]
    )
    predictions = pickle.loads(out.read_bytes())
    scores = torch.stack([p['pred_score'] for p in predictions])
    torch.testing.assert_close(scores, logits.softmax(1), rtol=0, atol=1e-5)

    plain = tmp_path / 'plain'
    load_tool('export').main(
        [str(tmp_path / 'tiny.py'), str(weights), '--out', str(plain)]
    )
    exported = Config.fromfile(plain / 'student.py')
    model = MODELS.build(dict(exported['model'], _scope_='mmpretrain')).eval()
    saved = torch.load(plain / 'student.pth', weights_only=True)
    model.load_state_dict(saved['state_dict'])
    assert not [key for key in saved['state_dict'] if 'lora' in key]
    torch.testing.assert_close(model(images / 255), logits, rtol=0, atol=1e-5)
    assert 'validation images' in capsys.readouterr().out
