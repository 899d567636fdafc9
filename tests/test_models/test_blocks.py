# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The blocks: their equations, and students that are plain networks."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from reducenet_mm import set_scaler, ungraft
from reducenet_mm.models import (
    STUDENT,
    TEACHER,
    PlainResNet,
    ReduceConv2d,
    ReduceNet,
    View,
    apply_view,
    using_view,
)
from reducenet_mm.models.backbones.reduce_blocks import (
    BLOCKS,
)
from reducenet_mm.models.layers import Gated, Replaceable
from reducenet_mm.models.merged_student import absorb_biases
from reducenet_mm.models.supernet import hosts, is_branch_key, student_norms
from tests.test_models.blocks import EXACT, VARIANTS, build, images

every_variant = pytest.mark.parametrize('name', VARIANTS)


def plain_like(net: ReduceNet) -> PlainResNet:
    return PlainResNet(
        net.depth,
        base_channels=net.base_channels,
        out_act=BLOCKS[net.block_name].out_act,
    ).to(next(net.parameters()))


def blocks(net):
    return [net.layer1[0], net.layer2[0], net.layer3[0]]


def shortcut(block, x):
    return x if block.downsample is None else block.downsample(x)


@pytest.mark.parametrize('scaler', [0.0, 0.3, 1.0])
def test_parallel_computes_its_equation(scaler):
    net = build('parallel')
    set_scaler(net, scaler)
    x = torch.randn(2, 4, 8, 8, dtype=torch.double)
    for block in blocks(net):
        conv1, branch = block.conv1, block.conv1.expand
        wide = branch.norm1(branch.conv1(x)).relu()
        branch1 = branch.norm2(branch.conv2(wide)).relu()
        branch2 = block.bn1(nn.Conv2d.forward(conv1, x)).relu()
        out = block.bn2(block.conv2(scaler * branch1 + branch2))
        out = out + shortcut(block, x)
        torch.testing.assert_close(block(x), out)
        assert (out < 0).any()  # no activation follows the sum
        x = out
    with torch.no_grad():
        assert conv1.out_channels * 3 == branch.conv1.out_channels


@pytest.mark.parametrize('name', ['sequential', 'without norm'])
@pytest.mark.parametrize('scaler', [0.0, 0.3, 1.0])
def test_sequential_computes_its_equation(name, scaler):
    net = build(name)
    set_scaler(net, scaler)
    x = torch.randn(2, 4, 8, 8, dtype=torch.double)
    for block in blocks(net):
        pair = block.conv1.pair
        wide = pair.conv1(x)
        assert wide.shape[1] == 3 * block.out_channels
        if name == 'sequential':
            wide = pair.norm1(wide)
        wide = scaler * wide.relu() + (1 - scaler) * wide
        out = block.bn1(pair.conv2(wide)).relu()
        out = block.bn2(block.conv2(out)) + shortcut(block, x)
        torch.testing.assert_close(block(x), out)
        x = out


@every_variant
@pytest.mark.parametrize('depth', [8, 18])
def test_the_student_is_exactly_a_plain_network(name, depth):
    net, x = build(name, depth), images()
    set_scaler(net, 0.0)
    student = net(x)[0]
    bare = ungraft(copy.deepcopy(net))
    assert not [m for m in bare.modules() if isinstance(m, Replaceable)]
    assert not [m for m in bare.modules() if isinstance(m, Gated)]
    torch.testing.assert_close(bare(x)[0], student, **EXACT)

    plain = plain_like(net).eval()
    state = absorb_biases(bare.state_dict(), plain)
    plain.load_state_dict(state, strict=True)
    torch.testing.assert_close(plain(x)[0], student, **EXACT)
    assert [p.shape for p in plain.parameters()] == [
        state[name].shape for name, _ in plain.named_parameters()
    ]
    set_scaler(net, 1.0)
    assert (net(x)[0] - student).abs().max() > 1e-3


@pytest.mark.parametrize('name', ['sequential', 'merged', 'lora'])
def test_a_bias_that_is_not_absorbed_is_seen(name):
    net, x = build(name), images()
    with torch.no_grad():
        for _, host in hosts(net):
            if name == 'merged':
                nn.init.uniform_(host.bias)
            if name == 'lora':
                nn.init.normal_(host.lora.pair.conv2.weight)
    set_scaler(net, 0.0)
    state = ungraft(copy.deepcopy(net)).state_dict()
    plain = plain_like(net).eval()
    plain.load_state_dict(absorb_biases(state, plain))
    torch.testing.assert_close(plain(x)[0], net(x)[0], **EXACT)
    dropped = {k: v for k, v in state.items() if 'conv1.bias' not in k}
    assert len(dropped) == len(state) - 3
    plain.load_state_dict(dropped)
    assert (plain(x)[0] - net(x)[0]).abs().max() > 1e-3


def test_a_norm_without_statistics_cannot_absorb():
    norm_cfg = dict(type='GN', num_groups=2)
    plain = PlainResNet(8, base_channels=4, norm_cfg=norm_cfg)
    state = {**plain.state_dict(), 'layer1.0.conv1.bias': torch.ones(4)}
    with pytest.raises(ValueError, match='no `layer1.0.gn1.running_mean`'):
        absorb_biases(state, plain)


@pytest.mark.parametrize('name', ['parallel', 'sequential', 'merged'])
def test_groupnorm_students_without_inner_norms_are_plain_too(name):
    net = ReduceNet(
        8,
        base_channels=4,
        norm_cfg=dict(type='GN', num_groups=2),
        inner_norm=name == 'parallel',  # which has no such norm
        **VARIANTS[name],
    )
    set_scaler(net.double(), 0.0)
    x = images()
    plain = PlainResNet(
        8,
        base_channels=4,
        norm_cfg=dict(type='GN', num_groups=2),
        out_act=False,
    ).double()
    bare = ungraft(copy.deepcopy(net))
    plain.load_state_dict(absorb_biases(bare.state_dict(), plain))
    torch.testing.assert_close(plain(x)[0], net(x)[0], **EXACT)


@pytest.mark.parametrize('name', ['parallel', 'merged', 'fresh'])
def test_the_student_costs_what_the_plain_network_costs(name):
    costs = []
    net = build(name)
    set_scaler(net, 0.0)
    for model in (net, plain_like(net)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(images())
        costs.append(counter.get_total_flops())
    assert costs[0] == costs[1]


@every_variant
def test_views_switch_every_gate_and_are_restored(name):
    net, x = build(name), images()
    gates = [m for m in net.modules() if isinstance(m, Gated)]
    teacher = net(x)[0]
    apply_view(net, STUDENT)
    student = net(x)[0]
    assert all(g.scaler == (g.gate == 'lora') for g in gates)
    with using_view(net, TEACHER):
        assert torch.equal(net(x)[0], teacher)
        assert all(g.scaler == (g.gate != 'lora') for g in gates)
    assert torch.equal(net(x)[0], student)
    apply_view(net, View(expand=0.25, lora=True, lambda_relu=0.75))
    values = dict(expand=0.25, lora=1.0, lambda_relu=0.75)
    assert all(g.scaler == values[g.gate] for g in gates)
    assert len(list(hosts(net))) == 3


@every_variant
def test_at_scaler_0_no_branch_is_computed_or_gets_a_gradient(name):
    net = build(name).train()
    set_scaler(net, 0.0)
    before = copy.deepcopy(net.state_dict())
    net(images())[0].square().sum().backward()
    for key, parameter in net.named_parameters():
        assert (parameter.grad is None) == is_branch_key(key), key
    for key, value in net.state_dict().items():
        if is_branch_key(key):
            assert torch.equal(value, before[key]), key
    moved = [n for n, m in student_norms(net) if m.num_batches_tracked]
    assert moved == [name for name, _ in student_norms(net)]


@every_variant
def test_the_teacher_uses_all_but_what_is_the_students_alone(name):
    net = build(name)
    net(images())[0].square().sum().backward()
    unused = {k for k, p in net.named_parameters() if p.grad is None}
    if name in ('merged', 'fresh'):
        assert len(unused) == 6
        assert all(
            k.endswith(('.conv1.weight', '.conv1.bias')) for k in unused
        )
    else:
        assert unused == {k for k in unused if '.lora.' in k}


@pytest.mark.parametrize('name', ['parallel', 'sequential'])
def test_with_cp_gives_the_same_gradients(name):
    plain = build(name).train()
    saving = build(name, with_cp=True).train()
    saving.load_state_dict(plain.state_dict())
    for net in (plain, saving):
        torch.manual_seed(1)
        x = torch.randn(2, 3, 8, 8, dtype=torch.double, requires_grad=True)
        net(x)[0].square().sum().backward()
    for (key, a), b in zip(plain.named_parameters(), saving.parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=key)


def test_ungraft_keeps_what_is_frozen_in_eval_mode():
    settings = dict(block='parallel', frozen_stages=1, norm_eval=True)
    bare = ungraft(ReduceNet(8, base_channels=4, **settings).train())
    assert not any(m.training for m in bare.layer1[0].modules())
    block = bare.layer2[0]
    assert block.training and block.conv1.training and not block.bn1.training
    assert not bare.layer1[0].conv1.weight.requires_grad


def test_a_host_itself_cannot_be_replaced_in_place():
    with pytest.raises(ValueError, match=r'ReduceConv2d .* student\(\)'):
        ungraft(ReduceConv2d(3, 4, 3))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(student_conv='new'), "one of .*'fresh'.* got 'new'"),
        (dict(student_conv='merged'), "for block='sequential' only"),
        (dict(inner_norm=False), "norm=False is for block='sequential' only"),
        (
            dict(block='sequential', lora=dict(kind='weight')),
            "backbone.lora=.* with block='sequential'",
        ),
        (
            dict(block='parallel', zero_init_expand=True),
            "zero_init_expand=True is for block='postsum' only",
        ),
        (
            dict(block='sequential', zero_init_expand=True),
            "got block='sequential'",
        ),
        (dict(block='parallel', lora=dict(kind='no')), "got 'no'"),
        (
            dict(block='sequential', norm_cfg=dict(type='GN', num_groups=2)),
            "'GN'.*cannot be folded",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ReduceNet(8, base_channels=4, **settings)
