# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A new convolution for the student of `sequential`; folds into hosts."""

import copy

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn

from reducenet_mm import set_scaler, ungraft
from reducenet_mm.models import (
    TEACHER,
    ReduceNet,
    View,
    apply_view,
    using_view,
)
from reducenet_mm.models.algorithms.weight_reuse import describe_reuse
from reducenet_mm.models.supernet import adapt_state_dict, hosts
from tests.test_models.blocks import EXACT, VARIANTS, build, images


@pytest.mark.parametrize('name', ['merged', 'fresh'])
@pytest.mark.parametrize('inner_norm', [True, False])
def test_a_new_conv_takes_up_the_teachers_checkpoint(name, inner_norm):
    teacher, x = build('sequential', inner_norm=inner_norm), images()
    net = build(name, inner_norm=inner_norm)
    start = net.layer1[0].conv1.weight.clone()
    state = teacher.state_dict()
    keys = list(state)
    adapted = adapt_state_dict(net, state)
    assert list(state) == keys
    assert adapted.keys() == net.state_dict().keys()
    net.load_state_dict(state, strict=True)  # the same without adapting
    for key, value in net.state_dict().items():
        assert torch.equal(value, adapted[key]), key
    torch.testing.assert_close(net(x)[0], teacher(x)[0])
    set_scaler(net, 0.0)
    set_scaler(teacher, 0.0)
    if name == 'merged':
        torch.testing.assert_close(net(x)[0], teacher(x)[0], **EXACT)
    else:
        assert torch.equal(net.layer1[0].conv1.weight, start)
        assert (net(x)[0] - teacher(x)[0]).abs().max() > 1e-3
    resumed = build(name, inner_norm=inner_norm)
    resumed.load_state_dict(net.state_dict())
    set_scaler(resumed, 0.0)
    assert torch.equal(resumed(x)[0], net(x)[0])


@pytest.mark.parametrize('name', ['merged', 'fresh'])
def test_a_teacher_with_the_same_config_has_no_new_conv_to_inherit(name):
    """Its own never trained: it is the merge of a pair that has changed."""
    teacher, x = build(name), images()
    pairs = build('sequential').state_dict()
    state = teacher.state_dict()
    for key, value in pairs.items():
        state[key.replace('.pair.', '.expand.')] = value
    net = build(name)
    wanted = copy.deepcopy(net)
    net.load_state_dict(adapt_state_dict(net, state))
    wanted.load_state_dict(adapt_state_dict(wanted, pairs))
    for key, value in wanted.state_dict().items():
        assert torch.equal(net.state_dict()[key], value), key
    teacher.load_state_dict(state)
    torch.testing.assert_close(net(x)[0], teacher(x)[0])
    for one in (net, teacher):
        set_scaler(one, 0.0)
    assert (net(x)[0] - teacher(x)[0]).abs().max() > 1e-3


def test_only_the_new_conv_trains_and_the_teacher_stays():
    net, x = build('merged'), images()
    net.load_state_dict(build('sequential').state_dict())
    teacher = net(x)[0]
    mains = [
        f'{name}.{p}' for name, _ in hosts(net) for p in ('weight', 'bias')
    ]
    for key, parameter in net.named_parameters():
        parameter.requires_grad_(key in mains)
    set_scaler(net, 0.0)
    student = net(x)[0]
    optimizer = torch.optim.SGD(
        [p for p in net.parameters() if p.requires_grad], lr=0.1
    )
    net(x)[0].square().mean().backward()
    optimizer.step()
    assert not torch.allclose(net(x)[0], student)
    with using_view(net, TEACHER):
        assert torch.equal(net(x)[0], teacher)


def test_a_pair_of_another_width_is_left_for_strict_loading_to_refuse():
    teacher = ReduceNet(8, base_channels=4, expansion=2, block='sequential')
    net = build('merged')
    with pytest.raises(RuntimeError, match=r'size mismatch.*expand\.conv1'):
        net.load_state_dict(teacher.state_dict())


def test_between_its_gates_a_new_conv_is_mixed_with_the_pair():
    net = build('merged')
    conv = net.layer1[0].conv1
    x = torch.randn(2, 4, 8, 8, dtype=torch.double)
    apply_view(net, View(expand=0.3, lora=True, lambda_relu=1.0))
    wanted = 0.3 * conv.expand(x) + 0.7 * nn.Conv2d.forward(conv, x)
    torch.testing.assert_close(conv(x), wanted)


def test_init_weights_starts_a_new_conv_as_the_merge_and_lora_at_zero():
    def fresh(name):  # at zero, its blocks would hide their convolutions
        net = ReduceNet(
            8, base_channels=4, zero_init_residual=False, **VARIANTS[name]
        )
        net.init_weights()
        return net

    net, x = fresh('merged'), images()
    apply_view(net.double().eval(), View(expand=1, lora=True, lambda_relu=0))
    pair = net(x)[0]
    set_scaler(net, 0.0)
    # The merge was rounded to float32.
    torch.testing.assert_close(net(x)[0], pair, rtol=1e-4, atol=1e-5)

    net, x = fresh('lora').eval(), images().float()
    apply_view(net, View(expand=0, lora=False, lambda_relu=0))
    without = net(x)[0]
    set_scaler(net, 0.0)
    assert torch.equal(net(x)[0], without)


def test_folding_norms_leaves_the_student_of_a_pair_exact():
    net, x = build('sequential'), images()
    set_scaler(net, 0.0)
    before = net(x)[0]
    folded = fuse_conv_bn(copy.deepcopy(net))
    torch.testing.assert_close(folded(x)[0], before, **EXACT)
    torch.testing.assert_close(ungraft(folded)(x)[0], before, **EXACT)


@pytest.mark.parametrize('name', ['parallel', 'merged'])
def test_folding_norms_into_an_active_host_is_refused(name):
    net, x = build(name), images()
    with pytest.raises(RuntimeError, match='branch is active'):
        fuse_conv_bn(copy.deepcopy(net))
    set_scaler(net, 0.0)
    before = net(x)[0]
    torch.testing.assert_close(fuse_conv_bn(net)(x)[0], before, **EXACT)
    with pytest.raises(RuntimeError, match='only the student is left'):
        set_scaler(net, 1.0)


@pytest.mark.parametrize('name', ['merged', 'fresh'])
def test_the_log_says_whether_new_convs_inherit(name):
    net = build(name)
    own = [
        parameter
        for _, host in hosts(net)
        for parameter in host.parameters(recurse=False)
    ]
    assert len(own) >= 3
    fresh = own if name == 'fresh' else []
    size = sum(parameter.numel() for parameter in fresh)
    assert (
        f'and starts {len(fresh)} tensors ({size:,} parameters) afresh'
    ) in describe_reuse(net, fresh=())
