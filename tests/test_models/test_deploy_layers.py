# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""switch_to_deploy and deploy=True of layers in networks of one's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from torch import nn

from reducenet_mm import set_scaler, ungraft
from reducenet_mm.models import ReduceConv2d
from reducenet_mm.models.layers import (
    Gated,
    Host,
    ParallelConv2d,
    SequentialConv2d,
    SequentialPair,
)
from reducenet_mm.models.supernet import (
    adapt_state_dict,
    hosts,
    reset_branches,
)
from tests.conftest import randomise_norms
from tests.test_models.blocks import EXACT
from tests.test_models.deployed import LORAS

GEOMETRIES = [
    dict(kernel_size=3, padding=1, bias=False),
    dict(kernel_size=3, padding=1, stride=2, bias=True),
    dict(kernel_size=3, padding='same', dilation=2, bias=False),
    dict(kernel_size=3, padding=1, padding_mode='reflect', bias=False),
    dict(kernel_size=3, padding=1, groups=2, bias=True),
]
BN = dict(type='BN')
Build = Callable[..., Host]


def _side_branch(kind: type[ReduceConv2d], lora: Any) -> Build:
    return lambda conv, **deploy: kind(
        4, 8, zero_init=False, lora=lora, **conv, **deploy
    )


def _pair(kind: Any, norm_cfg: Any) -> Build:
    return lambda conv, **deploy: kind(
        nn.Conv2d(4, 8, **conv), 2, norm_cfg, **deploy
    )


KINDS = {
    **{
        f'{kind.__name__} {name}': _side_branch(kind, lora)
        for kind in (ReduceConv2d, ParallelConv2d)
        for name, lora in LORAS.items()
    },
    **{
        f'{kind.__name__} {"norm" if norm else "bare"}': _pair(kind, norm)
        for kind in (SequentialPair, SequentialConv2d)
        for norm in (BN, None)
    },
}
ADD_BIAS = ('kxk norms', '1x1', ' norm')
"""Ends of the names of kinds in which a norm merges."""
every_kind = pytest.mark.parametrize('kind', KINDS)
every_geometry = pytest.mark.parametrize('geometry', GEOMETRIES)


def trained(kind: str, geometry: dict) -> Host:
    """The layer as after training, in float64, its student on."""
    layer = KINDS[kind](geometry)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    randomise_norms(layer)
    set_scaler(layer, 0.0)
    return layer.double().eval()


def inputs() -> torch.Tensor:
    return torch.randn(2, 4, 9, 9, dtype=torch.double)


@every_kind
@every_geometry
def test_the_layer_becomes_the_plain_convolution(kind, geometry):
    layer, x = trained(kind, geometry), inputs()
    student, conv = layer(x), layer.student_conv()
    layer.switch_to_deploy()
    torch.testing.assert_close(layer(x), student, **EXACT)
    assert torch.equal(layer(x), conv(x))
    has_bias = geometry['bias'] or kind.endswith(ADD_BIAS)
    assert list(layer.state_dict()) == ['weight', 'bias'][: 1 + has_bias]
    conv.load_state_dict(layer.state_dict(), strict=True)
    assert not [m for m in layer.modules() if m is not layer and _has(m)]
    built = KINDS[kind](geometry, deploy=True).double().eval()
    assert built.deploy and type(built) is type(layer)
    built.load_state_dict(layer.state_dict(), strict=True)
    assert torch.equal(built(x), layer(x))
    assert str(built) == str(layer)


def _has(module: nn.Module) -> bool:
    """Whether the module has tensors of its own, or a gate."""
    return bool(module.state_dict()) or isinstance(module, Gated)


@pytest.mark.parametrize(
    ('kind', 'part'),
    [
        ('ReduceConv2d kxk', 'lora.pair.conv2.weight'),
        ('ParallelConv2d kxk norms', 'lora.norm.bias'),
        ('ReduceConv2d 1x1', 'lora.norm.weight'),
        ('ReduceConv2d weight', 'lora.up'),
        ('SequentialPair norm', 'pair.norm1.running_var'),
    ],
)
def test_a_part_left_out_of_the_merge_is_seen(kind, part):
    layer, x = trained(kind, GEOMETRIES[0]), inputs()
    student, wrong = layer(x), copy.deepcopy(layer)
    with torch.no_grad():
        wrong.state_dict()[part].zero_()
    wrong.switch_to_deploy()
    assert (wrong(x) - student).abs().max() > 1e-2


@every_kind
@pytest.mark.parametrize('scaler', [0.5, 1.0])
def test_only_the_student_can_be_switched(kind, scaler):
    layer, x = trained(kind, GEOMETRIES[0]), inputs()
    set_scaler(layer, scaler)
    state = {key: val.clone() for key, val in layer.state_dict().items()}
    outputs = layer(x)
    with pytest.raises(RuntimeError, match=rf'got scaler={scaler} of .*\b0.0'):
        layer.switch_to_deploy()
    assert torch.equal(layer(x), outputs) and not layer.deploy
    after = layer.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[key], value) for key, value in state.items())


@every_kind
def test_a_second_switch_does_nothing(kind):
    layer = trained(kind, GEOMETRIES[0])
    layer.switch_to_deploy()
    weight = layer.weight
    layer.switch_to_deploy()
    assert layer.weight is weight


@every_kind
@pytest.mark.parametrize('built', [True, False])
def test_it_cannot_be_switched_on_again(kind, built):
    layer = trained(kind, GEOMETRIES[0])
    other = trained('ReduceConv2d no lora', GEOMETRIES[0])
    if built:
        layer = KINDS[kind](GEOMETRIES[0], deploy=True).double().eval()
    else:
        layer.switch_to_deploy()
    net = nn.ModuleList([other, layer])
    assert [name for name, _ in hosts(net)] == ['0', '1']
    assert layer.scaler == 0
    set_scaler(net, 0.0)
    with pytest.raises(RuntimeError, match='of `1` .*only the student is lef'):
        set_scaler(net, 1.0)
    assert other.scaler == layer.scaler == 0
    state = {key: value.clone() for key, value in net.state_dict().items()}
    reset_branches(layer)
    adapted = adapt_state_dict(net, state)
    assert adapted.keys() == state.keys()
    assert all(torch.equal(adapted[k], net.state_dict()[k]) for k in state)


@every_kind
def test_a_training_checkpoint_does_not_fit_it(kind):
    layer = trained(kind, GEOMETRIES[0])
    state = copy.deepcopy(layer.state_dict())
    layer.switch_to_deploy()
    with pytest.raises(RuntimeError, match='Unexpected key'):
        layer.load_state_dict(state, strict=True)


@every_kind
def test_mmpretrains_loop_switches_a_network_of_ones_own(kind):
    layer, x = trained(kind, GEOMETRIES[0]), inputs()
    net = nn.Sequential(layer, nn.BatchNorm2d(8), nn.ReLU())
    randomise_norms(net).double().eval()
    student = net(x)
    for module in net.modules():
        if hasattr(module, 'switch_to_deploy'):
            module.switch_to_deploy()
    torch.testing.assert_close(net(x), student, **EXACT)
    again = copy.deepcopy(net)
    torch.testing.assert_close(again(x), student, **EXACT)
    if isinstance(layer, nn.Conv2d):
        folded = fuse_conv_bn(copy.deepcopy(net))
        torch.testing.assert_close(folded(x), student, **EXACT)
        assert isinstance(folded[1], nn.Identity)
    (call,) = [
        node.target
        for node in torch.export.export(net[0], (x,)).graph.nodes
        if node.op == 'call_function'
    ]
    assert call is torch.ops.aten.conv2d.default
    assert type(ungraft(net)[0]) is nn.Conv2d
    torch.testing.assert_close(net(x), student, **EXACT)


def test_what_is_frozen_and_in_eval_mode_stays_so():
    layer = trained('ReduceConv2d kxk norms', GEOMETRIES[0]).float()
    layer.requires_grad_(False).switch_to_deploy()
    assert not any(p.requires_grad for p in layer.parameters())
    assert layer.weight.dtype == layer.bias.dtype == torch.float
    layer = SequentialPair(nn.Conv2d(4, 8, 3), 2, BN)
    set_scaler(layer, 0.0)
    layer.switch_to_deploy()
    assert layer.training and layer.bias.requires_grad


@pytest.mark.parametrize('kind', [SequentialPair, SequentialConv2d])
def test_deploy_true_still_checks_its_arguments(kind):
    with pytest.raises(ValueError, match='expansion must be .* got 0'):
        kind(nn.Conv2d(4, 8, 3), 0, deploy=True)
    with pytest.raises(ValueError, match=r"lora\.kind .* got 'no'"):
        ReduceConv2d(4, 8, 3, bias=False, lora=dict(kind='no'), deploy=True)
