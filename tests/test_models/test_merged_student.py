# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A student with something to merge as the start of another stage."""

from __future__ import annotations

import copy

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from reducenet_mm import graft, set_scaler, ungraft
from reducenet_mm.models.layers.lora import WeightLora
from reducenet_mm.models.merged_student import (
    absorb_biases,
    check_has_place,
    merge_student,
)
from reducenet_mm.models.supernet import (
    is_branch_key,
    is_lora_key,
    reset_branches,
    set_gates,
    student_gates,
)
from tests.conftest import randomise_norms
from tests.test_models.blocks import EXACT, images
from tests.test_models.blocks import build as build_net
from tests.test_models.grafts import grafted_cfg

KINDS = {
    'pair': dict(kind='kxk_1x1'),
    'inner': dict(kind='kxk_1x1', expansion=2, inner_norm=True),
    'outer': dict(kind='kxk_1x1', expansion=0.5, outer_norm=True),
    'both, act': dict(
        kind='kxk_1x1', inner_norm=True, outer_norm=True, act=True
    ),
    'point': dict(kind='1x1'),
    'low rank': dict(kind='weight', expansion=0.25),
    'expanded': dict(kind='weight', expansion=3),
}
kinds = pytest.mark.parametrize('kind', KINDS)
blocks = pytest.mark.parametrize('block', ['postsum', 'parallel'])


def trained(block='postsum', lora=None, **settings):
    """A student, none of its tensors trivial, and its state dict."""
    net = build_net(block, lora=lora, **settings)
    for name, parameter in net.named_parameters():
        if is_lora_key(name) and 'norm' not in name:
            nn.init.normal_(parameter, std=0.3)
    set_scaler(net, 0.0)
    state = net.state_dict()
    return net, {k: v for k, v in state.items() if not is_branch_key(k)}


def load(net, student):
    """Load strictly, but for what no student has; return the student."""
    missing, unexpected = net.load_state_dict(student, strict=False)
    assert not unexpected
    assert all(is_branch_key(k) or is_lora_key(k) for k in missing)
    set_scaler(net, 0.0)
    return net


@blocks
@kinds
def test_a_lora_merges_into_a_stage_without_it(block, kind):
    net, student = trained(block, KINDS[kind])
    given, values = list(student), copy.deepcopy(student)
    target = build_net(block)
    before = copy.deepcopy(target.state_dict())
    merged = merge_student(target, student)

    assert list(student) == given
    assert all(torch.equal(student[key], values[key]) for key in given)
    own = target.state_dict()
    assert all(torch.equal(own[key], before[key]) for key in before)
    assert not [key for key in merged if is_lora_key(key)]
    x = images()
    wanted = net(x)[0]
    torch.testing.assert_close(load(target, merged)(x)[0], wanted, **EXACT)
    dropped = {k: v for k, v in student.items() if not is_lora_key(k)}
    assert (load(target, dropped)(x)[0] - wanted).abs().max() > 1e-3


@kinds
def test_only_the_hosts_and_the_norms_after_them_change(kind):
    _, student = trained(lora=KINDS[kind])
    merged = merge_student(build_net('postsum'), student)
    changed = {k for k in merged if not torch.equal(merged[k], student[k])}
    hosts = [f'layer{i}.0' for i in (1, 2, 3)]
    expected = {f'{host}.conv1.weight' for host in hosts}
    if kind in ('inner', 'outer', 'both, act', 'point'):
        expected |= {f'{host}.bn1.running_mean' for host in hosts}
    assert changed == expected


def test_a_lora_whose_activation_fades_again_is_merged():
    """It would not be what it was while the schedule begins at 1."""
    net, student = trained(lora=KINDS['both, act'])
    target = build_net('postsum', lora=KINDS['both, act'])
    reset_branches(target)  # as init_weights does
    merged = merge_student(target, student)
    assert not [key for key in merged if is_lora_key(key)]
    load(target, merged)
    x = images()
    wanted = net(x)[0]
    for value in (0.0, 1.0):
        set_gates(student_gates(target, 'lambda_relu'), value)
        torch.testing.assert_close(target(x)[0], wanted, **EXACT)


@pytest.mark.parametrize('kind', [k for k in KINDS if 'act' not in k])
def test_the_very_same_lora_goes_on(kind):
    _, student = trained(lora=KINDS[kind])
    target = build_net('postsum', lora=KINDS[kind])
    merged = merge_student(target, student)
    assert merged.keys() == student.keys()
    assert all(merged[key] is student[key] for key in student)


def test_another_lora_starts_as_nothing_beside_the_merge():
    net, student = trained(lora=KINDS['inner'])
    x = images()
    wider = dict(KINDS['inner'], expansion=3)
    for lora in (wider, KINDS['point'], KINDS['low rank']):
        target = build_net('postsum', lora=lora)
        reset_branches(target)  # as init_weights does
        load(target, merge_student(target, student))
        torch.testing.assert_close(target(x)[0], net(x)[0], **EXACT)


def test_the_eps_of_the_norms_is_the_backbones():
    norm_cfg = dict(type='BN', eps=0.1)
    net, student = trained(lora=KINDS['both, act'], norm_cfg=norm_cfg)
    x = images()
    wanted = net(x)[0]
    target = build_net('postsum', norm_cfg=norm_cfg)
    load(target, merge_student(target, student))
    torch.testing.assert_close(target(x)[0], wanted, **EXACT)
    other = merge_student(build_net('postsum'), student)
    assert (load(target, other)(x)[0] - wanted).abs().max() > 1e-3
    own = dict(KINDS['point'], norm_cfg=norm_cfg)
    with pytest.raises(ValueError, match='eps=0.1.*eps=1e-05.*Leave it out'):
        build_net('postsum', lora=own)


@pytest.mark.parametrize('inner_norm', [True, False])
@pytest.mark.parametrize('name', ['merged', 'fresh'])
def test_a_trained_pair_becomes_the_new_conv(name, inner_norm):
    net, student = trained('sequential', inner_norm=inner_norm)
    target = build_net(name, inner_norm=inner_norm)
    teacher = {
        k: v.clone() for k, v in target.state_dict().items() if 'expand' in k
    }
    x, merged = images(), merge_student(target, student)
    torch.testing.assert_close(load(target, merged)(x)[0], net(x)[0], **EXACT)
    for key, value in teacher.items():  # the teacher keeps its own pair
        assert torch.equal(target.state_dict()[key], value), key

    plain = absorb_biases(ungraft(copy.deepcopy(net)).state_dict(), net)
    target = build_net(name, inner_norm=inner_norm)
    torch.testing.assert_close(
        load(target, merge_student(target, plain))(x)[0], net(x)[0], **EXACT
    )


def test_a_backbone_with_a_deep_stem_takes_one_too():
    """Its stem has no norm of a name that others have."""
    lora = dict(kind='weight', expansion=0.5)
    net = MODELS.build(grafted_cfg('Res2Net', lora=lora)).double()
    for host in randomise_norms(net).modules():
        if isinstance(host, WeightLora):
            nn.init.normal_(host.up, std=0.1)
    set_scaler(net, 0.0)
    state = net.state_dict()
    student = {k: v for k, v in state.items() if not is_branch_key(k)}
    target = MODELS.build(grafted_cfg('Res2Net')).double()
    for one in (net, target):
        one.eval()  # returns None
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    wanted = net(x)[0]
    assert (target(x)[0] - wanted).abs().max() > 1e-3
    load(target, merge_student(target, student))
    torch.testing.assert_close(target(x)[0], wanted, **EXACT)


@pytest.mark.parametrize('convs', ['conv1', 'conv2'])
@pytest.mark.parametrize('depth', [18, 50])
def test_the_norm_after_any_conv_of_a_block_takes_its_bias(depth, convs):
    stock = dict(type='mmpretrain.ResNet', depth=depth)
    stock.update(stem_channels=4, base_channels=4)
    graft = dict(type='GraftedBackbone', targets=[rf'layer\d\.0\.{convs}'])
    lora = dict(kind='kxk_1x1', inner_norm=True, outer_norm=True)
    net = MODELS.build(dict(graft, backbone=stock, lora=lora)).double()
    check_has_place(net)
    for name, parameter in randomise_norms(net).named_parameters():
        if is_lora_key(name) and 'norm' not in name:
            nn.init.normal_(parameter, std=0.3)
    set_scaler(net, 0.0)
    plain = MODELS.build(stock).double()
    target = MODELS.build(dict(graft, backbone=stock)).double()
    for one in (net, plain, target):
        one.eval()  # returns None
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    bare = ungraft(copy.deepcopy(net)).state_dict()
    assert bare.keys() > plain.state_dict().keys()
    plain.load_state_dict(absorb_biases(bare, plain))
    torch.testing.assert_close(plain(x)[0], net(x)[0], **EXACT)
    student = {k: v for k, v in net.state_dict().items() if 'expand' not in k}
    load(target, merge_student(target, student))
    torch.testing.assert_close(target(x)[0], net(x)[0], **EXACT)


def test_no_random_number_is_drawn():
    _, student = trained(lora=KINDS['pair'])
    target = build_net('postsum')
    torch.manual_seed(5)
    merge_student(target, student)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_another_width_is_left_for_strict_loading_to_refuse():
    for settings in (dict(base_channels=8), dict(in_channels=1)):
        _, student = trained(lora=KINDS['both, act'], **settings)
        target = build_net('postsum')
        merged = merge_student(target, student)
        with pytest.raises(RuntimeError, match='size mismatch'):
            load(target, merged)
    _, student = trained(lora=KINDS['both, act'], depth=14)
    left = merge_student(build_net('postsum'), student)
    assert all('.1.' in key for key in left if is_lora_key(key))


@pytest.mark.parametrize('key', ['pair.conv2.weight', 'pair.norm1.bias'])
def test_a_damaged_lora_is_left_as_it_is(key):
    _, student = trained(lora=KINDS['inner'])
    del student[f'layer2.0.conv1.lora.{key}']
    merged = merge_student(build_net('postsum'), student)
    left = {name for name in merged if is_lora_key(name)}
    assert left and all(name.startswith('layer2.0.') for name in left)
    weight = 'layer2.0.conv1.weight'
    assert merged[weight] is student[weight]


def test_a_host_of_another_kernel_is_left_as_it_is():
    _, student = trained(lora=KINDS['point'])
    weight = 'layer2.0.conv1.weight'
    student[weight] = torch.zeros(8, 4, 5, 5, dtype=torch.double)
    merged = merge_student(build_net('postsum'), student)
    assert merged[weight] is student[weight]
    assert any('layer2' in name for name in merged if is_lora_key(name))


def grafted(bias, lora=None):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=bias), nn.BatchNorm2d(4)
    )
    graft(net, '0', lora=lora)
    set_scaler(randomise_norms(net), 0.0)
    return net.double().eval()


def test_a_host_with_a_bias_takes_what_merging_leaves():
    net, x = grafted(True, KINDS['point']), images()
    target = grafted(True)
    load(target, merge_student(target, net.state_dict()))
    torch.testing.assert_close(target(x), net(x), **EXACT)


def test_a_bias_that_nothing_can_take_is_refused():
    student = grafted(False, KINDS['point']).state_dict()
    with pytest.raises(ValueError, match='gives `0` a bias.*same `lora`'):
        merge_student(grafted(False), student)
    student = grafted(False, KINDS['pair']).state_dict()  # leaves none
    target = grafted(False)
    load(target, merge_student(target, student))


class NormFirst(nn.Module):
    """A block whose ``bn1`` is before ``conv1``."""

    def __init__(self):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(3)
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)

    def forward(self, x):
        return self.conv1(self.bn1(x).relu())


def test_a_norm_before_the_convolution_does_not_take_its_bias():
    student, target = (
        graft(nn.Sequential(NormFirst()), r'0\.conv1', lora=lora)
        for lora in (KINDS['point'], None)
    )
    randomise_norms(student)
    with pytest.raises(ValueError, match=r'gives `0\.conv1` a bias'):
        merge_student(target, student.state_dict())
