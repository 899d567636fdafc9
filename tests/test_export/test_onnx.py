# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""ONNX: the same function, for every batch size, and nothing of ours."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from reducenet_mm import set_scaler
from reducenet_mm.export.int8 import quantise
from reducenet_mm.export.onnx_file import (
    PACKAGES,
    OnnxClassifier,
    require_onnx,
    run_onnx,
    to_onnx,
)
from reducenet_mm.models.supernet import ungraft
from tests.conftest import randomise_norms
from tests.test_export.digits_student import accuracy, digits, trained_student

TOLERANCE = 1e-4
METADATA = dict(classes='["0", "1"]', checkpoint='epoch_3.pth')


@pytest.fixture(scope='module')
def student() -> nn.Module:
    return trained_student()


@pytest.fixture(scope='module')
def content(student: nn.Module) -> bytes:
    return to_onnx(student, digits('val')[0][:1], METADATA)


@pytest.fixture
def small() -> nn.Module:
    """A classifier in training mode that takes a moment to export."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )
    return randomise_norms(network)


@torch.no_grad()
def difference(content: bytes, model: nn.Module, images: Tensor) -> float:
    """The largest one, relative to the largest logit of ``model``."""
    wanted = model(images)
    gap = (run_onnx(content, images) - wanted).abs().max()
    return (gap / wanted.abs().max()).item()


def test_real_images_are_classified_as_by_torch(
    content: bytes, student: nn.Module
) -> None:
    images, labels = digits('val')
    assert 0 <= difference(content, student, images) <= TOLERANCE
    reached = accuracy(student(images), labels)
    assert reached > 85
    assert accuracy(run_onnx(content, images), labels) == reached


@pytest.mark.parametrize('count', [1, 3, 64])
def test_one_model_takes_every_batch_size(
    count: int, content: bytes, student: nn.Module
) -> None:
    images = torch.randn(count, 1, 8, 8)
    assert run_onnx(content, images).shape == (count, 10)
    assert 0 <= difference(content, student, images) <= TOLERANCE


def test_a_changed_weight_is_seen(content: bytes, student: nn.Module) -> None:
    images, _ = digits('val')
    changed = copy.deepcopy(student)
    with torch.no_grad():
        changed.backbone.layer2[0].conv2.weight[0, 0, 0, 0] += 0.1
    assert difference(content, changed, images) > TOLERANCE


def test_norms_that_are_not_trivial(classifier: nn.Module) -> None:
    set_scaler(classifier, 0.0)
    student = ungraft(classifier).eval()
    images = torch.randn(4, 3, 16, 16)
    model = to_onnx(student, images)
    assert 0 <= difference(model, student, images) <= TOLERANCE
    kinds = [n.op_type for n in onnx.load_from_string(model).graph.node]
    assert kinds.count('Conv') == 9
    assert 'BatchNormalization' not in kinds  # folded
    student.backbone.bn1.reset_running_stats()
    assert difference(model, student, images) > TOLERANCE


def test_what_is_in_the_file(content: bytes) -> None:
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    (given,), (found,) = model.graph.input, model.graph.output
    assert (given.name, found.name) == ('images', 'logits')
    dims = given.type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == [
        'batch',
        *(1, 8, 8),
    ]
    dims = found.type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ['batch', 10]
    assert {p.key: p.value for p in model.metadata_props} == METADATA
    embedded = onnx.TensorProto.DEFAULT
    assert {t.data_location for t in model.graph.initializer} == {embedded}


def test_the_file_says_nothing_of_the_machine_or_the_project(
    content: bytes,
) -> None:
    home = str(Path(torch.__file__).parents[1])
    for word in (home, str(Path.cwd()), '.py', 'reducenet', 'mmpretrain'):
        assert word.encode() not in content


def test_an_export_is_quiet_repeatable_and_changes_nothing(
    small: nn.Module, capfd: Any
) -> None:
    images = torch.randn(3, 3, 8, 8)
    before = {key: val.clone() for key, val in small.state_dict().items()}
    first = to_onnx(small, images)
    assert small.training
    assert to_onnx(small.double().eval(), images[:1].double()) == first
    assert small[0].weight.dtype == torch.float64
    for key, value in small.state_dict().items():
        assert torch.equal(value, before[key].to(value))
    assert capfd.readouterr() == ('', '')
    assert difference(first, small.float(), images) <= TOLERANCE


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_no_numbers_are_seen_by_comparing(
    value: float, small: nn.Module
) -> None:
    with torch.no_grad():
        small[0].weight[0, 0, 0, 0] = value
    images = torch.randn(3, 3, 8, 8)
    found = difference(to_onnx(small, images), small.eval(), images)
    assert not found <= TOLERANCE


def test_threads_and_provider(content: bytes) -> None:
    images, _ = digits('val')
    wanted = run_onnx(content, images)
    for threads in (None, 1, 2):
        network = OnnxClassifier(content, threads)
        options = network.session.get_session_options()
        count = threads or torch.get_num_threads()
        assert options.intra_op_num_threads == count
        assert network.session.get_providers() == ['CPUExecutionProvider']
        torch.testing.assert_close(network(images), wanted)
    with pytest.raises(ValueError, match='threads .* got 0'):
        OnnxClassifier(content, 0)


def test_images_of_any_precision_and_layout(content: bytes) -> None:
    images = torch.randn(2, 1, 8, 8)
    wanted = run_onnx(content, images)
    other = images.double().to(memory_format=torch.channels_last)
    assert torch.equal(run_onnx(content, other.requires_grad_()), wanted)


@pytest.mark.parametrize(
    ('network', 'shape', 'message'),
    [
        (nn.Flatten(), (3, 8, 8), r'got shape \(3, 8, 8\)'),
        (nn.Identity(), (2, 3, 8, 8), r'Tensor of shape \(2, 3, 8, 8\)'),
        (nn.Flatten(0), (2, 3, 8, 8), r'Tensor of shape \(384,\)'),
    ],
)
def test_what_is_no_classifier_is_refused(
    network: nn.Module, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        to_onnx(network, torch.zeros(shape))


def test_a_backbone_alone_is_refused(student: nn.Module) -> None:
    with pytest.raises(ValueError, match='got tuple'):
        to_onnx(student.backbone, digits('val')[0])


@pytest.mark.parametrize('package', PACKAGES)
@pytest.mark.parametrize(
    'work',
    [
        require_onnx,
        lambda: to_onnx(None, None),
        lambda: run_onnx(b'', None),
        lambda: OnnxClassifier(b''),
        lambda: quantise(b'', []),
    ],
    ids=['require_onnx', 'to_onnx', 'run_onnx', 'OnnxClassifier', 'quantise'],
)
def test_a_missing_package_names_the_extra_before_any_work(
    package: str, work: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"not installed: {package}\..*'reducenet_mm\[onnx\]'"
    with pytest.raises(ImportError, match=message):
        work()
