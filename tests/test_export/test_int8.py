# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Quantisation: a quarter of the weights' bytes, nearly the same answers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.numpy_helper import from_array, to_array
from torch import Tensor, nn

from reducenet_mm.export.int8 import quantise
from reducenet_mm.export.onnx_file import run_onnx, to_onnx
from tests.test_export.digits_student import accuracy, digits, trained_student

METADATA = dict(classes='["0", "1"]')


@pytest.fixture(scope='module')
def student() -> nn.Module:
    return trained_student()


@pytest.fixture(scope='module')
def plain(student: nn.Module) -> bytes:
    return to_onnx(student, digits('val')[0], METADATA)


@pytest.fixture(scope='module')
def train_images() -> Tensor:
    return digits('train')[0]


@pytest.fixture(scope='module')
def quantised(plain: bytes, train_images: Tensor) -> bytes:
    return quantise(plain, train_images.split(64))


def logits_gap(content: bytes, student: nn.Module) -> float:
    images, _ = digits('val')
    with torch.no_grad():
        wanted = student(images)
    gap = (run_onnx(content, images) - wanted).abs().max()
    return (gap / wanted.abs().max()).item()


def test_it_classifies_nearly_as_well(
    quantised: bytes, plain: bytes, student: nn.Module
) -> None:
    images, labels = digits('val')
    full = accuracy(run_onnx(plain, images), labels)
    assert full > 85
    assert accuracy(run_onnx(quantised, images), labels) >= full - 2
    assert 1e-4 < logits_gap(quantised, student) < 0.1
    assert logits_gap(plain, student) < 1e-4


def test_weights_are_integers_of_seven_bits_with_a_scale_for_each_channel(
    quantised: bytes, plain: bytes
) -> None:
    assert len(quantised) < 0.35 * len(plain)
    model = onnx.load_from_string(quantised)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count('Conv') == 9
    assert kinds.count('QuantizeLinear') >= 9
    tensors = {t.name: to_array(t) for t in model.graph.initializer}
    weights = {
        name: value
        for name, value in tensors.items()
        if name.endswith('.weight_quantized')
    }
    assert len(weights) == 10  # of the convolutions and of the classifier
    for name, value in weights.items():
        assert value.dtype == np.int8
        assert 32 < np.abs(value.astype(int)).max() <= 64
        scale = tensors[name.replace('_quantized', '_scale')]
        assert scale.shape == value.shape[:1]


def test_input_output_and_metadata_are_those_of_the_plain_model(
    quantised: bytes, plain: bytes
) -> None:
    model, before = map(onnx.load_from_string, (quantised, plain))
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.input == before.graph.input
    assert model.graph.output == before.graph.output
    assert {p.key: p.value for p in model.metadata_props} == METADATA
    assert model.opset_import == before.opset_import
    for count in (1, 3, 64):
        images = torch.randn(count, 1, 8, 8)
        assert run_onnx(quantised, images).shape == (count, 10)


def test_logits_are_not_rounded_to_8_bits(quantised: bytes) -> None:
    logits = run_onnx(quantised, digits('val')[0])
    assert len(logits.unique()) > 1000


def test_the_same_bytes_whatever_the_batches_and_their_order(
    quantised: bytes, plain: bytes, train_images: Tensor
) -> None:
    batches = [*reversed(train_images.double().split(100)), train_images[:0]]
    assert quantise(plain, (batch for batch in batches)) == quantised


def test_calibration_on_other_images_is_seen(
    quantised: bytes, plain: bytes, student: nn.Module, train_images: Tensor
) -> None:
    dark = quantise(plain, [train_images / 100])
    assert logits_gap(dark, student) > 5 * logits_gap(quantised, student)


def test_nothing_is_left_behind_or_said(
    plain: bytes,
    train_images: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    quantise(plain, [train_images[:8]])
    with pytest.raises(ValueError, match='calibration images: NaN'):
        quantise(plain, [train_images[:8], train_images[:8] * float('nan')])
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ('', '')
    assert not [r for r in caplog.records if 'onnx' in r.pathname]


@pytest.mark.parametrize('batches', [[], [torch.zeros(0, 1, 8, 8)]])
def test_no_image_is_refused(batches: list[Tensor], plain: bytes) -> None:
    with pytest.raises(ValueError, match='got none.*train_dataloader'):
        quantise(plain, batches)


def test_images_of_another_size_are_refused(
    plain: bytes, train_images: Tensor
) -> None:
    batches = [train_images[:2], torch.zeros(1, 1, 8, 9)]
    match = r'one size, here \(1, 8, 8\), got \(1, 8, 9\)'
    with pytest.raises(ValueError, match=match):
        quantise(plain, batches)
    with pytest.raises(ValueError, match=match):
        run_onnx(plain, batches[1])


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_no_numbers_are_refused(
    value: float, plain: bytes, train_images: Tensor
) -> None:
    model = onnx.load_from_string(plain)
    (tensor,) = (
        t for t in model.graph.initializer if t.name == 'head.fc.weight'
    )
    weight = to_array(tensor).copy()
    weight[0, 0] = value
    tensor.CopyFrom(from_array(weight, tensor.name))
    with pytest.raises(ValueError, match=r'head\.fc\.weight: NaN or inf'):
        quantise(model.SerializeToString(), [train_images[:8]])
