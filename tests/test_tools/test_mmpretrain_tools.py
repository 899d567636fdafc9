# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""MMPretrain's own tools on our configs and checkpoints, as they ship.

Of a teacher, of a distillation, and of a grafted backbone. Nothing but the
line ``custom_imports`` in each config tells them of this project.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.analysis.print_helper import _format_size
from mmengine.config import Config
from mmpretrain.registry import MODELS

from reducenet_mm.models.checkpoint_views import split_state_dict
from reducenet_mm.models.supernet import is_branch_key
from tests.test_tools.mmpretrain_runs import (
    CONFIGS,
    reference,
    stock_resnet,
    weights,
    write_config,
)
from tests.test_tools.stock_tools import (
    activation_map,
    pixels_of,
    probabilities,
    stock_tool,
)

NAMES = ('teacher', 'student', 'grafted')
TOOLS = {
    name: stock_tool('mmpretrain', f'{name}.py')
    for name in (
        'train',
        'test',
        'analysis_tools/get_flops',
        'visualization/vis_cam',
    )
}
needs_grad_cam = pytest.mark.skipif(
    importlib.util.find_spec('pytorch_grad_cam') is None,
    reason='vis_cam.py needs grad-cam, see requirements/tests.txt',
)


def run(process: Callable, *command: object) -> str:
    """Run a tool to its end, return what it printed."""
    done = process(sys.executable, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory, process: Callable) -> Any:
    """Configs, and what MMPretrain's ``train.py`` makes of them."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('mmpretrain')
    for name in NAMES:
        write_config(folder, name)
        config = folder / f'{name}.py'
        work_dir = ['--work-dir', folder / name]
        run(process, TOOLS['train'], config, *work_dir)
    torch.save(torch.randn(3, 3, 64, 64), folder / 'batch.pt')
    return folder


# train.py


def test_train_writes_a_teacher_with_branches(folder: Path) -> None:
    state = weights(folder, 'teacher')
    reference(folder, 'teacher')  # loads strictly
    branches = {key for key in state if is_branch_key(key)}
    assert len([k for k in branches if k.endswith('norm2.weight')]) == 8
    cfg = Config.fromfile(folder / 'teacher.py')
    plain = MODELS.build(dict(stock_resnet(cfg.model), _scope_='mmpretrain'))
    assert state.keys() - branches == plain.state_dict().keys()


def test_train_distils_in_one_supernet(folder: Path) -> None:
    before = weights(folder, 'teacher')
    teacher, student = split_state_dict(weights(folder, 'student'))
    assert teacher is not None and teacher.keys() == before.keys()
    assert all(torch.equal(teacher[key], before[key]) for key in before)
    changed = {k for k in student if not torch.equal(student[k], before[k])}
    assert {k for k in student if student[k].ndim == 4} <= changed
    assert {k for k in student if k.startswith('head.')}.isdisjoint(changed)
    (log,) = (folder / 'student').glob('*/*.log')
    assert 'distill.loss_kl: ' in log.read_text()


def test_train_keeps_the_keys_of_a_grafted_backbone(folder: Path) -> None:
    state = weights(folder, 'grafted')
    branches = {key for key in state if is_branch_key(key)}
    scales = [key for key in branches if key.endswith('norm2.weight')]
    assert len(scales) == 17  # depthwise convolutions
    assert all(state[key].any() for key in scales)  # they have left zero
    cfg = Config.fromfile(folder / 'grafted.py')
    cfg.model.backbone = dict(type='MobileNetV2', widen_factor=0.25)
    stock = MODELS.build(dict(cfg.model, _scope_='mmpretrain'))
    assert state.keys() - branches == stock.state_dict().keys()


# test.py


@pytest.mark.parametrize('name', ['student', 'grafted'])
def test_test_gives_what_our_own_tool_gives(
    name: str,
    folder: Path,
    process: Callable,
    run_here: Callable[..., None],
    load_tool: Callable[[str], SimpleNamespace],
    tmp_path: Path,
) -> None:
    arguments = [str(folder / f'{name}.py')]
    arguments += [str(folder / name / 'epoch_1.pth'), '--work-dir']
    theirs, ours = tmp_path / 'theirs.pkl', tmp_path / 'ours.json'
    command = TOOLS['test'], *arguments, tmp_path / 'a', '--out', theirs
    if name == 'student':
        run(process, *command)
    else:
        run_here(*command)
    load_tool('test').main(
        [*arguments, str(tmp_path / 'b'), '--out', str(ours)]
    )
    metrics = json.loads(ours.read_text())
    (log,) = (tmp_path / 'a').glob('*/*.log')
    found = dict(re.findall(r'(accuracy/top\d): ([\d.]+)', log.read_text()))
    assert {key: float(value) for key, value in found.items()} == (
        pytest.approx(metrics, abs=1e-4)
    )
    assert set(metrics) == {'accuracy/top1', 'accuracy/top5'}

    model = reference(folder, name)
    predictions = pickle.loads(theirs.read_bytes())
    assert len(predictions) == 3
    right = 0
    for predicted in predictions:
        pixels = pixels_of(folder / f'{name}.py', Path(predicted['img_path']))
        wanted = probabilities(model, pixels)
        torch.testing.assert_close(predicted['pred_score'], wanted)
        right += int(wanted.argmax() == predicted['gt_label'])
    assert metrics['accuracy/top1'] == pytest.approx(100 * right / 3)


# get_flops.py


def check_counts(printed: str, counted: dict[str, Any], head: int) -> None:
    """Compare what the tool prints with our counts, part by part.

    Args:
        printed: By the tool.
        counted: By ours.
        head: Multiply-adds of the network's head, which theirs leaves out.
    """
    network = counted['networks']['teacher']
    whole, rows = network['total'], {}
    flops = _format_size(whole['mmengine_flops'] - head)
    params = _format_size(whole['params'])
    assert f'Flops: {flops}\nParams: {params}\n' in printed
    for line in printed.splitlines():
        if line.startswith('|'):
            name, *cells = (cell.strip() for cell in line.split('|')[1:4])
            rows[name.removeprefix('backbone.')] = cells
    parts = network['parts']
    shown = parts.keys() & rows.keys()
    assert len(shown) >= 3
    for part in shown:
        values = (parts[part]['params'], parts[part]['mmengine_flops'])
        assert rows[part] == [_format_size(value) for value in values], part


def test_get_flops_counts_a_teacher_like_ours(
    process: Callable, load_tool: Callable[[str], SimpleNamespace]
) -> None:
    """Of the published network, whose figures are known."""
    config = CONFIGS / 'cifar10/reducenet20-w16-e1_cifar10_teacher.py'
    printed = run(
        process, TOOLS['analysis_tools/get_flops'], config, '--shape', 32
    )
    tool = load_tool('analysis_tools/get_flops')
    counted = tool.count(tool.parse_args([str(config)]))
    assert 'Flops: 62.796M\nParams: 0.412M\n' in printed
    check_counts(printed, counted, 64 * 10)


def test_get_flops_counts_the_student_of_a_distillation(
    run_here: Callable[..., None], capsys: Any
) -> None:
    """Its operations, that is: the parameters are those of the supernet."""
    config = CONFIGS / 'cifar10/reducenet20-w16-e1_cifar10_student.py'
    run_here(TOOLS['analysis_tools/get_flops'], config, '--shape', 32)
    assert 'Flops: 41.218M\nParams: 0.412M\n' in capsys.readouterr().out


def test_get_flops_counts_a_grafted_backbone_like_ours(
    folder: Path,
    run_here: Callable[..., None],
    load_tool: Callable[[str], SimpleNamespace],
    capsys: Any,
) -> None:
    config, shape, head = folder / 'grafted.py', ['--shape', '64'], 1280 * 1000
    student = folder / 'grafted_student.py'
    change = dict(backbone=dict(scaler=0))
    student.write_text(f"_base_ = './grafted.py'\nmodel = {change!r}\n")
    tool = load_tool('analysis_tools/get_flops')
    counted = tool.count(tool.parse_args([str(config), *shape]))
    run_here(TOOLS['analysis_tools/get_flops'], config, *shape)
    check_counts(capsys.readouterr().out, counted, head)
    run_here(TOOLS['analysis_tools/get_flops'], student, *shape)
    flops = counted['networks']['student']['total']['mmengine_flops'] - head
    assert f'Flops: {_format_size(flops)}\n' in capsys.readouterr().out


# vis_cam.py


def check_picture(path: Path, wanted: np.ndarray) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture.shape == (224, 224, 3)
    assert np.abs(picture - wanted).mean() < 2  # of 255
    return picture


@needs_grad_cam
def test_vis_cam_draws_the_student_of_a_distillation(
    folder: Path, process: Callable, tmp_path: Path
) -> None:
    """The layer has to be named: the backbone is inside `architecture`."""
    image, out = folder / 'val' / '1.jpg', tmp_path / 'cam.png'
    files = [folder / 'student.py', folder / 'student' / 'epoch_1.pth']
    layer = ['--target-layers', 'architecture.backbone.layer4']
    options = [*layer, '--save-path', out]
    run(process, TOOLS['visualization/vis_cam'], image, *files, *options)
    pixels = pixels_of(files[0], image)
    model = reference(folder, 'student')
    check_picture(out, activation_map(model, 'backbone.layer4', pixels))
    other = reference(folder, 'teacher')
    wrong = activation_map(other, 'backbone.layer4', pixels)
    with pytest.raises(AssertionError):
        check_picture(out, wrong)


@needs_grad_cam
def test_vis_cam_draws_a_grafted_backbone(
    folder: Path, run_here: Callable[..., None], tmp_path: Path
) -> None:
    files = [folder / 'grafted.py', folder / 'grafted' / 'epoch_1.pth']
    model, pictures = reference(folder, 'grafted'), []
    for name in ('1', '2'):
        image, out = folder / 'val' / f'{name}.jpg', tmp_path / f'{name}.png'
        run_here(
            TOOLS['visualization/vis_cam'], image, *files, '--save-path', out
        )
        pixels = pixels_of(files[0], image)
        wanted = activation_map(model, 'backbone.conv2.bn', pixels)
        pictures.append(check_picture(out, wanted))
    assert np.abs(pictures[0] - pictures[1].astype(float)).mean() > 10


# the Python interface


def test_the_interface_gives_the_networks(
    folder: Path, process: Callable
) -> None:
    """``list_models``, ``get_model``, ``ImageClassificationInferencer``."""
    script = Path(__file__).with_name('use_mmpretrain.py')
    run(process, script, folder, *NAMES)
    answers = torch.load(folder / 'answers.pt', weights_only=False)
    assert answers['listed'] == {
        'reducenet8-w16-e4_digits_teacher': 'ReduceNet'
    }
    assert answers['imported'] == (False, True)
    batch, image = torch.load(folder / 'batch.pt'), folder / 'val' / '1.jpg'
    for name in NAMES:
        model = reference(folder, name)
        with torch.no_grad():
            wanted = model(batch)
        torch.testing.assert_close(answers[name]['logits'], wanted)
        scores = probabilities(model, pixels_of(folder / f'{name}.py', image))
        inferred = answers[name]['inferred']
        found = torch.from_numpy(inferred['pred_scores'])
        torch.testing.assert_close(found, scores)
        assert inferred['pred_label'] == int(scores.argmax())
        classes = torch.load(folder / name / 'epoch_1.pth')['meta'][
            'dataset_meta'
        ]['classes']
        assert inferred['pred_class'] == classes[inferred['pred_label']]
    one, two = (answers[name]['logits'] for name in NAMES[:2])
    assert (one - two).abs().max() > 1e-3
