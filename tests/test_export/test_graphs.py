# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Graphs: the deployed student is a plain network, operation for operation."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv.cnn.utils import fuse_conv_bn
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from reducenet_mm import set_scaler
from reducenet_mm.models.supernet import ungraft
from tests.conftest import randomise_norms
from tests.test_export.hand_written import HandWrittenNet, operations

SUPERNETS: dict[str, dict[str, Any]] = {
    'postsum': dict(),
    'postsum-18': dict(depth=18),
    'parallel': dict(block='parallel'),
    'sequential': dict(block='sequential'),
    'lora': dict(lora=dict(kind='kxk_1x1', inner_norm=True)),
}
"""Name -> settings of the backbone."""


def switched(supernet: nn.Module) -> nn.Module:
    supernet.backbone.switch_to_deploy()
    return supernet


FORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    'ungrafted': ungraft,
    'fused': lambda supernet: fuse_conv_bn(ungraft(supernet)),
    'switched': switched,
}
"""Name -> what turns a supernet at scaler 0 into its plain student."""


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32)


@pytest.fixture
def supernet(classifier_cfg: Callable) -> Callable[[str], nn.Module]:
    def build(name: str) -> nn.Module:
        cfg = classifier_cfg(**SUPERNETS[name])
        if cfg['backbone']['depth'] == 18:
            cfg['head']['in_channels'] = 32
        model = randomise_norms(MODELS.build(cfg)).eval()
        set_scaler(model, 0.0)
        return model

    return build


def hand_written(name: str, folded: bool) -> nn.Module:
    large = name == 'postsum-18'
    return HandWrittenNet(
        (2, 2, 2, 2) if large else (1, 1, 1),
        width=4,
        classes=5,
        folded=folded,
        out_act=name not in ('parallel', 'sequential'),
        large_images=large,
    ).eval()


@pytest.mark.parametrize(
    ('name', 'form'),
    [
        *((name, 'ungrafted') for name in ('postsum', 'postsum-18')),
        ('parallel', 'ungrafted'),
        ('postsum', 'fused'),
        *((name, 'switched') for name in SUPERNETS),
    ],
)
def test_the_student_is_a_hand_written_network_operation_for_operation(
    name: str, form: str, supernet: Callable, images: Tensor
) -> None:
    model = supernet(name)
    student = FORMS[form](copy.deepcopy(model)).eval()
    other = hand_written(name, folded=form != 'ungrafted')
    found, names = operations(student, images)
    wanted, other_names = operations(other, images)
    assert found == wanted
    assert len(found) > 40

    # With the student's weights, in the order of their use, also its answer.
    state = student.state_dict()
    weights = {mine: state[key] for mine, key in zip(other_names, names)}
    other.load_state_dict(weights, strict=False)
    with torch.no_grad():
        answer = other(images)
        assert torch.equal(answer, student(images))
        torch.testing.assert_close(answer, model(images))


def test_the_supernet_at_scaler_0_computes_the_same_and_no_branch(
    supernet: Callable, images: Tensor
) -> None:
    model = supernet('postsum')
    plain, names = operations(hand_written('postsum', False), images)
    found, used = operations(model, images)
    assert found == plain
    assert len(used) == len(names)
    assert not [name for name in used if 'expand' in name]

    set_scaler(model, 1.0)
    teacher, used = operations(model, images)
    assert [name for name in used if 'expand' in name]

    def convs(listed: list[tuple]) -> int:
        return sum(line[1] == 'aten.conv2d.default' for line in listed)

    assert convs(teacher) == convs(plain) + 3 * 2  # of each block's branch


@pytest.mark.parametrize(
    'change',
    [
        dict(width=8),
        dict(blocks=(1, 1, 2)),
        dict(out_act=False),
        dict(folded=True),
    ],
)
def test_a_network_of_another_shape_is_told_apart(
    change: dict[str, Any], supernet: Callable, images: Tensor
) -> None:
    shape: dict[str, Any] = dict(blocks=(1, 1, 1), width=4, classes=5)
    other = HandWrittenNet(**{**shape, **change}).eval()
    student, _ = operations(ungraft(supernet('postsum')), images)
    assert operations(other, images)[0] != student


@pytest.mark.parametrize('form', ['ungrafted', 'switched'])
def test_torch_export_round_trip(
    form: str, supernet: Callable, images: Tensor
) -> None:
    student = FORMS[form](supernet('postsum'))
    batch = torch.export.Dim('batch')
    program = torch.export.export(
        student, (images,), dynamic_shapes=({0: batch},)
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for count in (1, 2, 5):
        batch_of = torch.randn(count, 3, 32, 32)
        assert torch.equal(loaded(batch_of), student(batch_of))


@pytest.mark.parametrize('form', ['ungrafted', 'switched'])
def test_torchscript_round_trip(
    form: str, supernet: Callable, images: Tensor
) -> None:
    model = supernet('postsum')
    student = FORMS[form](copy.deepcopy(model))
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(student, images), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for count in (1, 2, 5):
        batch_of = torch.randn(count, 3, 32, 32)
        torch.testing.assert_close(
            loaded(batch_of), student(batch_of), rtol=1e-6, atol=1e-6
        )
    set_scaler(model, 1.0)
    assert (loaded(images) - model(images)).abs().max() > 1e-2


def test_mmpretrains_resnet_can_only_be_traced(classifier_cfg: Callable):
    # Its blocks define a function in forward, which TorchScript does not
    # compile: neither ours nor the stock network can be scripted.
    cfg = classifier_cfg()
    cfg['backbone'] = dict(type='ResNet', depth=18, base_channels=4)
    stock = MODELS.build(dict(cfg, data_preprocessor=None)).backbone
    with pytest.raises(
        torch.jit.frontend.NotSupportedError, match='function definitions'
    ):
        torch.jit.script(stock)


READ = """
import sys, torch
images, wanted = torch.load('io.pt')
loaded = [torch.jit.load('student.ts'), torch.export.load('s.pt2').module()]
for model in loaded:
    torch.testing.assert_close(model(images), wanted, rtol=1e-6, atol=1e-6)
foreign = {'mmcv', 'mmengine', 'mmpretrain', 'reducenet_mm'}
print(len(loaded), sorted(foreign & set(sys.modules)))
"""


def test_both_files_need_nothing_but_torch(
    supernet: Callable, images: Tensor, tmp_path: Path
) -> None:
    student = ungraft(supernet('postsum'))
    traced = torch.jit.trace(student, images)
    torch.jit.save(traced, tmp_path / 'student.ts')
    program = torch.export.export(student, (images,))
    torch.export.save(program, tmp_path / 's.pt2')
    torch.save((images, student(images).detach()), tmp_path / 'io.pt')
    done = subprocess.run(
        [sys.executable, '-Wignore', '-c', READ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == '2 []\n'
