# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A network that cannot take its own images is found before a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from torch import nn
from torch.nn.modules import module as hooks

from reducenet_mm.engine import preflight
from reducenet_mm.engine.preflight import build_model, walk_model
from tests.config_runs import LEAVES, load, stem
from tests.test_engine.conftest import TRAIN
from tests.tiny_data import use_tiny_data

TEACHER = 'configs/reducenet/digits/reducenet8-w16-e4_digits_teacher.py'


def built(cfg: Config) -> tuple[nn.Module, Any]:
    """Return the model and the training set of a config."""
    with (
        preflight.no_side_effects(),
        DefaultScope.overwrite_default_scope('mmpretrain'),
    ):
        model = build_model(cfg, walk_model(cfg), init_weights=False)
        return model, DATASETS.build(cfg.train_dataloader.dataset)


@pytest.mark.parametrize('path', LEAVES, ids=stem)
def test_our_own_networks_take_their_images(path, tmp_path):
    cfg = use_tiny_data(load(path), tmp_path)
    model, dataset = built(cfg)
    preflight.check_image(model, dataset)
    key = 'model'
    if hasattr(model, 'architecture'):
        key = 'model.architecture'
    head = getattr(model, 'architecture', model).head
    wanted = head.fc.in_features
    head.fc = nn.Linear(wanted + 1, head.fc.out_features)
    with pytest.raises(ValueError) as refused:
        preflight.check_image(model, dataset)
    text = str(refused.value)
    assert text.startswith(f'{key}.head: an image of train_dataloader.dataset')
    assert f'{key}.head.fc, which is Linear(in_features={wanted + 1}' in text
    assert f'is given (1, {wanted}): ' in text


def test_nothing_is_changed_by_looking():
    model, dataset = built(Config.fromfile(TEACHER))
    model.train()
    model.backbone.layer1.eval()  # as frozen stages are
    modes = [module.training for module in model.modules()]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    other = nn.Linear(3, 10)
    state = torch.get_rng_state()
    preflight.check_image(model, dataset)
    model.head.fc = other
    with pytest.raises(ValueError):
        preflight.check_image(model, dataset)
    assert [module.training for module in model.modules()] == modes
    assert set(modes) == {True, False}
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        if not name.startswith('head.fc'):
            assert torch.equal(value, before[name])
    assert not hooks._global_forward_pre_hooks
    assert not hooks._global_forward_hooks


class Failing(nn.Module):
    """Fails in a way of its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, *args: Any) -> None:
        raise self.error


@pytest.mark.parametrize(
    'error',
    [
        KeyError('scale_factor'),
        NotImplementedError('this head has no forward of such a size'),
        torch.OutOfMemoryError('no room for a tensor of this size'),
        RuntimeError('expected scalar type Half but found Float'),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_has_nothing_to_do_with_shapes_is_passed_over(
    classifier: nn.Module, error: Exception
):
    _, dataset = built(Config.fromfile(TEACHER))
    preflight.check_image(classifier, dataset)
    classifier.backbone = Failing(error)
    preflight.check_image(classifier, dataset)
    classifier.backbone = Failing(RuntimeError('sizes must match'))
    with pytest.raises(ValueError, match='sizes must match'):
        preflight.check_image(classifier, dataset)


def test_what_is_not_there_yet_is_passed_over(classifier: nn.Module):
    _, dataset = built(Config.fromfile(TEACHER))
    classifier.head.fc = nn.Linear(3, 5)
    with pytest.raises(ValueError, match='model.head.fc'):
        preflight.check_image(classifier, dataset)
    preflight.check_image(classifier, [])
    preflight.check_image(dict(type='ImageClassifier'), dataset)


def test_what_is_no_classifier_is_passed_over(classifier: nn.Module):
    _, dataset = built(Config.fromfile(TEACHER))
    classifier.head.fc = nn.Linear(3, 5)
    del classifier.head.num_classes
    preflight.check_image(classifier, dataset)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (
            'model.head.in_channels=32',
            'Linear(in_features=32, out_features=10, bias=True) and is given '
            '(1, 64): mat1 and mat2',
        ),
        (
            'model.backbone.in_channels=3',
            'to have 3 channels, but got 1 channels instead. Let what '
            'model.backbone takes',
        ),
    ],
)
def test_train_says_so_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    option: str,
    message: str,
):
    options = ['--work-dir', str(tmp_path), '--cfg-options', option]
    with pytest.raises(SystemExit) as stopped:
        TRAIN([TEACHER, *options])
    assert stopped.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith('train.py: error: model.')
    assert message in last
    assert not list(tmp_path.glob('*.pth'))
