# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The comparison with published code notices what differs.

The code is ours, written from its description, with the published signature.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.published import Published

CODE = """
from tests.published import Published

BasicBlock = None

class ReduceNet(Published):
    def __init__(self, block, num_blocks, num_classes=10, width_scaler=1,
                 expansion=1):
        super().__init__(blocks=num_blocks[0], width=16 * width_scaler,
                         expansion=expansion, classes=num_classes)
    def forward(self, x):
        return super().forward(x) + {offset}
"""


@pytest.fixture
def compare(load_tool: Callable[[str], SimpleNamespace]) -> Callable:
    return load_tool('model_converters/compare_published').main


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[str]:
    """A teacher's and a student's file of one small published network."""
    torch.manual_seed(0)
    network = Published(blocks=1, width=16)
    paths = []
    for scaler in (1.0, 0.0):
        paths.append(str(tmp_path / f'scaler{scaler:g}.pth'))
        torch.save(network.set_gates(scaler).state_dict(), paths[-1])
    return paths


def write_code(folder: Path, offset: str = '0') -> str:
    path = folder / f'code{offset}.py'
    path.write_text(CODE.format(offset=offset))
    return str(path)


def write_images(folder: Path) -> str:
    rng = np.random.default_rng(0)
    for number in range(10):
        (folder / f'class{number}').mkdir(parents=True)
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'class{number}' / 'a.png')
    return str(folder)


def test_equal_outputs_are_recorded(
    checkpoints: list[str],
    compare: Callable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = write_images(tmp_path / 'images')
    out = tmp_path / 'found.json'
    code = write_code(tmp_path)
    compare([code, *checkpoints, '--images', images, '--out', str(out)])
    printed = capsys.readouterr().out.splitlines()
    found = json.loads(out.read_text())['compared']
    assert [one['checkpoint'] for one in found] == [
        'scaler1.pth',
        'scaler0.pth',
    ]
    assert [one['network']['scaler'] for one in found] == [1, 0]
    for one in found:
        assert one['network']['depth'] == 8
        assert set(one['max_difference']) == {'random', 'images'}
        assert 0 <= max(one['max_difference'].values()) < 1e-12
        assert one['images'] == 10
        assert one['right']['ours'] == one['right']['published']
    assert found[0]['sha256'] != found[1]['sha256']
    right = f'{10 * found[1]["right"]["ours"]:.2f}'
    assert printed[-1].startswith('| `scaler0.pth` | 0 | ')
    assert printed[-1].endswith(f' | {right} | {right} |')


def test_other_outputs_are_told_by_the_status(
    checkpoints: list[str], compare: Callable, tmp_path: Path
) -> None:
    out = tmp_path / 'found.json'
    wanted = r'differ: scaler1\.pth by \[\d.*e-0[789]\], scaler0\.pth by'
    with pytest.raises(SystemExit, match=wanted):
        compare(
            [write_code(tmp_path, '1e-8'), *checkpoints, '--out', str(out)]
        )
    assert not out.exists()


def test_what_is_no_number_is_not_equal(
    checkpoints: list[str], compare: Callable, tmp_path: Path
) -> None:
    state = torch.load(checkpoints[1], weights_only=True)
    state['linear.bias'] += torch.nan
    torch.save(state, checkpoints[1])
    with pytest.raises(SystemExit, match=r'differ: scaler0\.pth by \[nan\]$'):
        compare([write_code(tmp_path), *checkpoints])


def test_a_checkpoint_of_several_gpus_is_compared_too(
    checkpoints: list[str],
    compare: Callable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = torch.load(checkpoints[0], weights_only=True)
    state = {f'module.{key}': value for key, value in state.items()}
    torch.save(state, checkpoints[0])
    shutil.move(write_code(tmp_path), tmp_path / 'published')  # no suffix
    compare([str(tmp_path / 'published'), checkpoints[0]])
    assert '| `scaler1.pth` | 1 | ' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('code', 'extra', 'words'),
    [
        ('import nothing_of_that_name', [], 'does not run'),
        ('ReduceNet = None', [], 'defines no BasicBlock'),
        (CODE.format(offset=0).replace('16 *', '32 *'), [], 'not of this ver'),
        (CODE.format(offset=0), ['--images', 'nowhere'], 'is no folder'),
        (CODE.format(offset=0), ['--images', 'images'], 'has 1 folders, but'),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    code: str,
    extra: list[str],
    words: str,
    checkpoints: list[str],
    compare: Callable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / 'code.py'
    path.write_text(code)
    out = tmp_path / 'found.json'
    write_images(tmp_path / 'images' / 'all')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        compare([str(path), checkpoints[0], '--out', str(out), *extra])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and words in error
    assert not out.exists()
