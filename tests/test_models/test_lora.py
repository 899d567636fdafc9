# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""LoRA branches: start as nothing, train alone, merge exactly."""

import copy

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from reducenet_mm import graft, set_scaler, ungraft
from reducenet_mm.models import STUDENT, ReduceConv2d, View, apply_view
from reducenet_mm.models.layers.lora import WeightLora
from reducenet_mm.models.supernet import (
    adapt_state_dict,
    is_branch_key,
    is_lora_key,
    reset_branches,
    student_norms,
)
from tests.conftest import randomise_norms

EXACT = dict(rtol=0, atol=1e-10)
KINDS = [
    dict(kind='kxk_1x1'),
    dict(kind='kxk_1x1', expansion=2, inner_norm=True, outer_norm=True),
    dict(kind='kxk_1x1', inner_norm=True, act=True),
    dict(kind='kxk_1x1', outer_norm=True, act=True),
    dict(kind='1x1'),
    dict(kind='weight', expansion=0.25),
    dict(kind='weight', expansion=2),
]
GEOMETRIES = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, padding=1, stride=2),
    dict(kernel_size=5, padding=4, dilation=2),
    dict(kernel_size=3, padding=1, padding_mode='reflect', bias=False),
    dict(kernel_size=3, padding=1, groups=2, bias=False),
    dict(kernel_size=3, padding=1, groups=4, padding_mode='replicate'),
    dict(kernel_size=3, padding='same', dilation=2, padding_mode='circular'),
]


def host(lora, **geometry) -> ReduceConv2d:
    geometry = geometry or GEOMETRIES[0]
    return ReduceConv2d(4, 8, lora=lora, **geometry)


def trained(layer: ReduceConv2d) -> ReduceConv2d:
    """Make the branch what training could make it, in float64."""
    randomise_norms(layer)
    for name, parameter in layer.lora.named_parameters():
        if 'norm' not in name:
            nn.init.normal_(parameter, std=0.3)
    return layer.double().eval()


def inputs() -> torch.Tensor:
    return torch.randn(2, 4, 9, 9, dtype=torch.double)


@pytest.mark.parametrize('lora', KINDS)
@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_the_student_merges_exactly(lora, geometry):
    layer, x = trained(host(lora, **geometry)), inputs()
    set_scaler(layer, 0.0)
    student = layer(x)
    merged = layer.student_conv()
    assert type(merged) is nn.Conv2d
    torch.testing.assert_close(merged(x), student, **EXACT)
    main = nn.Conv2d.forward(layer, x)
    assert (student - main).abs().max() > 1e-2
    set_scaler(layer, 1.0)
    torch.testing.assert_close(layer(x), main + layer.expand(x))


@pytest.mark.parametrize('lora', KINDS)
def test_the_branch_starts_as_nothing_and_learns(lora):
    layer, x = host(lora), torch.randn(2, 4, 7, 7)
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    layer.lora.requires_grad_(True)
    set_scaler(layer, 0.0)
    assert torch.equal(layer(x), nn.Conv2d.forward(layer, x))
    optimizer = torch.optim.SGD(layer.lora.parameters(), lr=0.1)
    for _ in range(2):  # the first layer learns once the last is not zero
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        optimizer.step()
    assert all(p.grad.any() for p in layer.lora.parameters())
    assert layer.weight.grad is None
    assert not torch.allclose(layer(x), nn.Conv2d.forward(layer, x))


def test_the_teacher_does_not_compute_it():
    layer = host(dict(kind='kxk_1x1', outer_norm=True))
    layer.lora.register_forward_hook(lambda *_: pytest.fail('computed'))
    layer(torch.randn(1, 4, 5, 5)).sum().backward()
    assert all(p.grad is None for p in layer.lora.parameters())


def test_the_view_switches_it_and_its_activation():
    layer, x = trained(host(dict(kind='kxk_1x1', act=True))), inputs()
    main = nn.Conv2d.forward(layer, x)
    apply_view(layer, View(expand=0.0, lora=False, lambda_relu=0.5))
    assert torch.equal(layer(x), main)
    apply_view(layer, View(expand=0.0, lora=True, lambda_relu=0.5))
    pair = layer.lora.pair
    wide = pair.conv1(x)
    wide = 0.5 * wide.relu() + 0.5 * wide
    torch.testing.assert_close(layer(x), main + pair.conv2(wide))
    assert (layer.student_conv()(x) - layer(x)).abs().max() > 1e-2
    apply_view(layer, STUDENT)
    torch.testing.assert_close(layer.student_conv()(x), layer(x), **EXACT)


def test_a_norm_left_out_of_the_merge_is_seen():
    layer, x = trained(host(dict(kind='kxk_1x1', outer_norm=True))), inputs()
    set_scaler(layer, 0.0)
    wrong = copy.deepcopy(layer)
    wrong.lora.norm = nn.Identity()
    assert (wrong.student_conv()(x) - layer(x)).abs().max() > 1e-2


def test_merging_leaves_the_layer_alone_and_keeps_dtype_and_freezing():
    layer = trained(host(KINDS[1], kernel_size=3, padding=1)).float()
    layer.weight.requires_grad_(False)
    before = copy.deepcopy(layer.state_dict())
    merged = layer.student_conv()
    assert merged.weight.dtype == torch.float
    assert not merged.weight.requires_grad
    assert merged.weight is not layer.weight
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key])


def test_graft_and_ungraft_with_lora():
    net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU())
    x = torch.randn(2, 4, 7, 7, dtype=torch.double)
    net = net.double()
    before = net(x)
    keys = set(net.state_dict())
    graft(net, '0', expansion=2, lora=dict(kind='weight'))
    set_scaler(net, 0.0)
    assert torch.equal(net(x), before)
    nn.init.normal_(net[0].lora.up)
    student = net(x)
    assert not torch.allclose(student, before)
    ungraft(net)
    assert set(net.state_dict()) == keys
    torch.testing.assert_close(net(x), student, **EXACT)


def test_keys_and_norms_belong_to_the_student_but_are_not_the_hosts():
    layer = host(dict(kind='kxk_1x1', inner_norm=True))
    names = [key for key in layer.state_dict() if is_lora_key(key)]
    assert names and all(name.startswith('lora.') for name in names)
    assert not any(map(is_branch_key, names))
    assert [name for name, _ in student_norms(layer)] == ['lora.pair.norm1']


@pytest.mark.parametrize('lora', KINDS)
def test_reset_branches_restores_the_start(lora):
    net, x = nn.Sequential(trained(host(lora))), inputs()
    reset_branches(net)
    set_scaler(net, 0.0)
    assert torch.equal(net(x), nn.Conv2d.forward(net[0], x))


def test_a_teachers_state_is_completed_but_not_overwritten():
    teacher, student = host(None), host(dict(kind='weight', expansion=1))
    state = adapt_state_dict(student, teacher.state_dict())
    student.load_state_dict(state, strict=True)
    assert torch.equal(student.weight, teacher.weight)
    assert not student.lora.up.any()
    other = host(dict(kind='weight', expansion=2)).state_dict()
    assert adapt_state_dict(student, other).keys() == other.keys()
    with pytest.raises(RuntimeError, match='size mismatch'):
        student.load_state_dict(adapt_state_dict(student, other))


def test_folding_beside_an_active_lora_is_refused():
    layer = host(dict(kind='kxk_1x1'), kernel_size=3, padding=1, bias=False)
    net = randomise_norms(nn.Sequential(layer, nn.BatchNorm2d(8))).eval()
    set_scaler(net, 0.0)
    with pytest.raises(RuntimeError, match='lora on.*ungraft'):
        fuse_conv_bn(net)
    apply_view(net, View(expand=0.0, lora=False, lambda_relu=0.0))
    fuse_conv_bn(net)
    with pytest.raises(RuntimeError, match='only the student is left'):
        set_scaler(net, 0.0)


def test_weight_is_low_rank_below_1():
    layer = ReduceConv2d(4, 8, 3, lora=dict(kind='weight', expansion=0.25))
    assert isinstance(layer.lora, WeightLora)
    assert layer.lora.up.shape == (8, 2)
    assert layer.lora.down.shape == (2, 4 * 9)


@pytest.mark.parametrize('kind', ['weight', 'kxk_1x1'])
def test_only_weight_runs_no_convolution_of_its_own(kind: str):
    aten = torch.ops.aten
    counts = []
    for lora in (None, dict(kind=kind)):
        layer = host(lora).double()
        apply_view(layer, STUDENT)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(inputs())
        counts.append(counter.get_flop_counts()['Global'])
    bare, with_lora = (count[aten.convolution] for count in counts)
    assert (with_lora == bare) == (kind == 'weight')
    if kind == 'weight':
        rank = layer.lora.up.shape[1]
        assert counts[1][aten.mm] == 2 * 8 * rank * (4 * 9)


@pytest.mark.parametrize(
    ('lora', 'message'),
    [
        (dict(), 'lora.kind must be one of .* got None'),
        (dict(kind='3x3'), "got '3x3'"),
        (dict(kind='1x1', act=True), "unknown keys ..act.. for kind='1x1'"),
        (dict(kind='weight', host=1), "unknown keys .*'host'"),
        (dict(kind='kxk_1x1', expansion=0), 'expansion must be .* got 0'),
        (dict(kind='weight', expansion=True), 'expansion .* got True'),
        (
            dict(
                kind='kxk_1x1',
                inner_norm=True,
                norm_cfg=dict(type='GN', num_groups=2),
            ),
            "type.*'GN'.*cannot be folded",
        ),
    ],
)
def test_bad_settings_are_refused(lora, message):
    with pytest.raises(ValueError, match=message):
        host(lora)


def test_a_1x1_beside_a_kernel_off_centre_is_refused():
    with pytest.raises(ValueError, match='centred kernel'):
        host(dict(kind='1x1'), kernel_size=3)


def test_a_width_that_the_groups_do_not_divide_is_refused():
    with pytest.raises(ValueError, match='2 groups.*expansion'):
        host(
            dict(kind='kxk_1x1', expansion=0.125),
            kernel_size=3,
            padding=1,
            groups=2,
        )
