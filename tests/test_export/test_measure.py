# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""How many images are measured is said first; a bar is for terminals."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from rich.console import Console
from torch import Tensor

from reducenet_mm.export.images import ImageSource
from reducenet_mm.export.measure import Measured, measure

DIGITS = 'configs/reducenet/digits/reducenet8-w16-e4_digits_teacher.py'


@pytest.fixture
def source() -> ImageSource:
    cfg = Config.fromfile(DIGITS)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        preprocessor = dict(cfg.data_preprocessor)
        model = MODELS.build(dict(cfg.model, data_preprocessor=preprocessor))
        return ImageSource(cfg, model)


def zeros(images: Tensor) -> Tensor:
    """Answer that each image is of the first class."""
    return torch.eye(10)[:1].expand(len(images), 10)


@pytest.mark.parametrize('limit', [100, 5000, None])
@pytest.mark.parametrize('terminal', [True, False])
def test_a_terminal_sees_a_bar_and_a_log_one_line(
    limit: int | None, terminal: bool, source: ImageSource
) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=200)
    found = measure(dict(zeros=zeros), source, limit, console)
    count = 100 if limit == 100 else 300
    assert (found.images, found.available) == (count, 300)
    labels = torch.cat([labels for _, labels in source.validation(limit)])
    right = (labels == 0).float().mean().item()
    assert found.accuracy['zeros'] == pytest.approx(100 * right)
    first, *rest = shown.getvalue().splitlines()
    wanted = f'measuring 1 networks on {count} of 300 validation images'
    assert wanted in first
    assert any('100%' in line for line in rest) == terminal
    assert terminal or not rest


def test_it_is_said_before_the_first_image(
    source: ImageSource,
) -> None:
    shown = io.StringIO()
    seen = []

    def answer(images: Tensor) -> Tensor:
        seen.append(shown.getvalue())
        return zeros(images)

    measure(dict(one=answer), source, 10, Console(file=shown))
    assert [text.count('on 10 of 300') for text in seen] == [1]


def test_nothing_is_said_of_images_that_are_not_there(
    classifier_cfg: Callable,
) -> None:
    shown = io.StringIO()
    source = ImageSource(Config(dict(model=classifier_cfg())), None)
    found = measure(dict(one=zeros), source, None, Console(file=shown))
    assert found == Measured()
    assert not shown.getvalue()
