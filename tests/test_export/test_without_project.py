# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""An exported folder serves those who have MMPretrain and nothing of ours."""

from __future__ import annotations

import pickle
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch
from mmpretrain import get_model
from torch import Tensor, nn

from tests.test_export.folders import (
    BACKBONES,
    CLASSES,
    FOLDED,
    FOLDERS,
    export_folder,
    training_config,
    write_images,
)
from tests.test_export.hand_written import HandWrittenNet, operations

SCRIPT = Path(__file__).with_name('use_exported.py')


@pytest.fixture(scope='module')
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Folders exported here, used in a process without the project."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp('exported')
    images = write_images(root / 'images')
    supernets, given = {}, {}
    for name in FOLDERS:
        cfg = training_config(name, images)
        supernets[name] = export_folder(root, name, cfg)
        channels = len(cfg.data_preprocessor.mean)
        # The inferencer is given a file, and what imread makes of it.
        image: Any = str(images / 'cat' / 'cat1.png')
        if name == 'postsum':
            image = cv2.imread(image)
        given[name] = image, torch.randn(3, channels, 12, 12)
    torch.save(given, root / 'given.pt')
    paths = sysconfig.get_paths()
    command = [sys.executable, '-I', '-S', str(SCRIPT), str(root)]
    command += [paths['purelib'], paths['platlib']]
    cwd = root / 'cwd'
    cwd.mkdir()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = torch.load(root / 'answers.pt', weights_only=False)
    return SimpleNamespace(
        root=root, supernets=supernets, given=given, answers=answers
    )


def as_inferred(supernet: nn.Module, image: Any) -> Tensor:
    """Return a supernet's probabilities for a file or an image."""
    image = cv2.imread(image) if isinstance(image, str) else image
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    if supernet.backbone.conv1.in_channels == 1:
        weights = torch.tensor([1.0, 2.0, 1.0])[:, None, None] / 4
        pixels = (weights * pixels).sum(0, keepdim=True).byte()
    batch = supernet.data_preprocessor(dict(inputs=[pixels]))['inputs']
    with torch.no_grad():
        return supernet(batch).softmax(1)[0]


def test_the_project_is_not_there(elsewhere: SimpleNamespace) -> None:
    assert elsewhere.answers['found'] == []


@pytest.mark.parametrize('name', FOLDERS)
def test_get_model_gives_the_supernets_student(
    name: str, elsewhere: SimpleNamespace
) -> None:
    answer = elsewhere.answers[name]
    _, batch = elsewhere.given[name]
    with torch.no_grad():
        wanted = elsewhere.supernets[name](batch)
    assert wanted.std() > 0.01
    for logits in (answer['logits'], answer['init_model']):
        torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-5)
    assert answer['classes'] == list(CLASSES)
    assert answer['backbone'] == BACKBONES[name]
    shipped = str(elsewhere.root / name / 'student_backbone.py')
    assert (answer['file'] == shipped) == (name != 'stock')


@pytest.mark.parametrize('name', FOLDED)
def test_a_folded_student_is_the_same(
    name: str, elsewhere: SimpleNamespace
) -> None:
    answer = elsewhere.answers[name]
    assert not torch.equal(answer['folded'], answer['logits'])
    torch.testing.assert_close(
        answer['folded'], answer['logits'], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ('name', 'form'),
    [
        *((name, 'student') for name in FOLDERS if name != 'digits'),
        *((name, 'student_folded') for name in FOLDED),
    ],
)
def test_the_files_compute_what_a_hand_written_network_computes(
    name: str, form: str, elsewhere: SimpleNamespace
) -> None:
    """Operation for operation, and with the files' weights to the bit."""
    folder = elsewhere.root / name
    student = get_model(str(folder / f'{form}.py'), f'{folder}/{form}.pth')
    settings = FOLDERS[name]
    other = HandWrittenNet(
        {8: (1, 1, 1), 14: (2, 2, 2), 18: (2, 2, 2, 2)}[settings['depth']],
        width=4,
        classes=5,
        folded=form != 'student',
        out_act='block' not in settings,
        large_images=settings['depth'] == 18,
    ).eval()
    _, batch = elsewhere.given[name]
    found, names = operations(student, batch)
    wanted, other_names = operations(other, batch)
    assert found == wanted
    state = student.state_dict()
    weights = {mine: state[key] for mine, key in zip(other_names, names)}
    other.load_state_dict(weights, strict=False)
    with torch.no_grad():
        assert torch.equal(other(batch), student(batch))


@pytest.mark.parametrize('name', FOLDERS)
def test_the_inferencer_takes_arrays_and_files(
    name: str, elsewhere: SimpleNamespace
) -> None:
    inferred = elsewhere.answers[name]['inferred']
    image, _ = elsewhere.given[name]
    wanted = as_inferred(elsewhere.supernets[name], image)
    scores = torch.from_numpy(inferred['pred_scores'])
    torch.testing.assert_close(scores, wanted, rtol=1e-4, atol=1e-5)
    assert inferred['pred_class'] == CLASSES[wanted.argmax()]


def test_mmpretrains_own_test_tool_tests_it(
    elsewhere: SimpleNamespace,
) -> None:
    results = elsewhere.root / 'results'
    predictions = pickle.loads((results / 'predictions.pkl').read_bytes())
    files = sorted((elsewhere.root / 'images').glob('*/*.png'))
    assert [p['img_path'] for p in predictions] == list(map(str, files))
    right = 0
    for file, predicted in zip(files, predictions, strict=True):
        wanted = as_inferred(elsewhere.supernets['parallel'], str(file))
        torch.testing.assert_close(
            predicted['pred_score'], wanted, rtol=1e-4, atol=1e-5
        )
        right += CLASSES[wanted.argmax()] == file.parent.name
    (log,) = results.glob('*/*.log')
    assert f'accuracy/top1: {10 * right:.4f}' in log.read_text()
    drawn = sorted(path.name for path in (results / 'drawn').rglob('*.png'))
    assert len(drawn) == len(files)


def test_mmpretrains_publishing_tool_takes_the_weights(
    elsewhere: SimpleNamespace,
) -> None:
    published = elsewhere.answers['published']
    saved = torch.load(published, weights_only=True)
    source = torch.load(
        elsewhere.root / 'parallel' / 'student.pth', weights_only=True
    )
    assert saved['meta'].pop('mmpretrain_version')
    assert saved['meta'] == source['meta']
    assert saved['state_dict'].keys() == source['state_dict'].keys()
    for key, value in source['state_dict'].items():
        assert torch.equal(saved['state_dict'][key], value)


@pytest.mark.parametrize(
    ('name', 'error'),
    [('digits', 'Digits is not in'), ('holdout', 'HoldoutSplit is not in')],
)
def test_only_evaluating_on_our_data_needs_the_project(
    name: str, error: str, elsewhere: SimpleNamespace
) -> None:
    assert error in elsewhere.answers['errors'][name]


def test_other_images_are_not_measured_on(elsewhere: SimpleNamespace) -> None:
    """Of two data sets, the written config has the first, without metrics."""
    assert 'both' not in elsewhere.answers['errors']
    config = elsewhere.root / 'results' / 'both' / 'student.py'
    assert 'test_evaluator = []' in config.read_text()


def test_with_the_project_the_same_folder_gives_the_same(
    elsewhere: SimpleNamespace,
) -> None:
    folder = elsewhere.root / 'digits'
    model = get_model(
        str(folder / 'student.py'), pretrained=str(folder / 'student.pth')
    )
    _, batch = elsewhere.given['digits']
    with torch.no_grad():
        logits = model(batch)
    wanted = elsewhere.answers['digits']['logits']
    torch.testing.assert_close(logits, wanted, rtol=1e-6, atol=1e-6)
