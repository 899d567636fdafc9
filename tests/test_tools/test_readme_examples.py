# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The examples of the README, run as they stand there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image
from sklearn.datasets import load_digits

from reducenet_mm import set_scaler
from reducenet_mm.models.supernet import hosts

README = Path(__file__).parents[2] / 'README.md'


def blocks(heading: str) -> list[str]:
    """Return the code blocks of a section."""
    section = README.read_text().split(f'\n## {heading}\n')[1]
    section = section.split('\n## ')[0]
    return re.findall(r'```\w+\n(.*?)```', section, re.DOTALL)


def test_the_student_ships(
    student_run: Path,
    config: SimpleNamespace,
    load_tool: Callable[[str], SimpleNamespace],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    command, python, onnx = blocks('Ship the student')
    words = shlex.split(command)
    assert words[:2] == ['python', 'tools/export.py']
    given = dict(
        CONFIG=config.student, CHECKPOINT=str(student_run / 'epoch_2.pth')
    )
    arguments = [given.get(word, word) for word in words[2:]]
    monkeypatch.chdir(tmp_path)
    options = ['--cfg-options', *config.student_model]
    load_tool('export').main([*arguments, *options])
    Image.fromarray((load_digits().images[0] * 15).astype('uint8')).save(
        'your_image.png'
    )
    printed: list[int] = []
    exec(compile(python, 'README.md', 'exec'), {'print': printed.append})

    weights = torch.load('student/student.pth', weights_only=True)
    cfg = Config.fromfile('student/student.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        plain = MODELS.build(cfg.model).eval()
    plain.load_state_dict(weights['state_dict'])
    pixels = torch.from_numpy(load_digits().images[0] * 15).to(torch.uint8)
    settings = cfg.data_preprocessor
    image = (pixels.float() - settings.mean[0]) / settings.std[0]
    wanted = int(plain(image[None, None]).argmax())
    assert printed == [wanted]
    exec(compile(onnx, 'README.md', 'exec'), {'print': printed.append})
    assert printed == [wanted, wanted]


@pytest.mark.parametrize(
    'heading', ['Four lines in your MMPretrain config', 'Any other backbone']
)
def test_the_config_builds_both_networks(heading: str, tmp_path: Path) -> None:
    (text,) = blocks(heading)
    base = tmp_path / 'base.py'
    base.write_text("model = dict(backbone=dict(type='none', depth=1))\n")
    leaf = tmp_path / 'leaf.py'
    leaf.write_text(f"_base_ = './base.py'\n{text}")
    cfg = Config.fromfile(leaf)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = MODELS.build(cfg.model.backbone)
    backbone.eval()  # MMPretrain's returns nothing
    assert len(list(hosts(backbone))) >= 8
    image = torch.rand(1, 3, 32, 32)
    for host in (host for _, host in hosts(backbone)):
        torch.nn.init.ones_(host.expand.norm2.weight)
    teacher = backbone(image)[-1]
    set_scaler(backbone, 0.0)
    student = backbone(image)[-1]
    assert teacher.shape == student.shape
    assert not torch.equal(teacher, student)
