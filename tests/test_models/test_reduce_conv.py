# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""ReduceConv2d and ExpandBranch: the equation, the keys, the refusals."""

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.registry import MODELS
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from reducenet_mm import set_scaler
from reducenet_mm.models import ReduceConv2d
from tests.conftest import randomise_norms

GEOMETRIES = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, padding=1, stride=2),
    dict(kernel_size=1),
    dict(kernel_size=(3, 1), padding=(1, 0)),
    dict(kernel_size=3, padding=2, dilation=2),
    dict(kernel_size=3, padding='same'),
    dict(kernel_size=3, padding=1, padding_mode='reflect'),
    dict(kernel_size=3, padding=1, groups=4),
]


def by_hand(layer: ReduceConv2d, x: torch.Tensor) -> torch.Tensor:
    """The equation of the class, from its tensors alone."""
    expand = layer.expand
    main = nn.Conv2d.forward(layer, x)
    wide = torch.relu(expand.norm1(expand.conv1(x)))
    return main + layer.scaler * expand.norm2(expand.conv2(wide))


@pytest.mark.parametrize('geometry', GEOMETRIES)
@pytest.mark.parametrize('bias', [True, False])
def test_every_geometry_computes_the_equation(geometry, bias):
    layer = ReduceConv2d(4, 8, bias=bias, expansion=3, **geometry)
    randomise_norms(layer).double().eval()
    x = torch.randn(2, 4, 9, 9, dtype=torch.double)
    for scaler in (1.0, 0.3, 0.0):
        set_scaler(layer, scaler)
        torch.testing.assert_close(layer(x), by_hand(layer, x))
    set_scaler(layer, 1.0)
    assert layer.expand.conv1.out_channels == 3 * 8
    assert not torch.allclose(layer(x), nn.Conv2d.forward(layer, x))


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_a_graft_is_the_identity_and_keeps_parameters(geometry):
    conv = nn.Conv2d(4, 8, **geometry)
    x = torch.randn(2, 4, 9, 9)
    layer = ReduceConv2d.from_conv(conv, expansion=2)
    assert layer.scaler == 1
    assert torch.equal(layer(x), conv(x))
    assert layer.weight is conv.weight
    assert layer.bias is conv.bias
    assert set(conv.state_dict()) < set(layer.state_dict())
    back = layer.student_conv()
    assert type(back) is nn.Conv2d
    assert back.weight is conv.weight
    assert torch.equal(back(x), conv(x))


def test_at_scaler_0_the_branch_is_not_computed():
    layer = ReduceConv2d(3, 4, 3, expansion=2)
    layer.expand.register_forward_hook(lambda *_: pytest.fail('computed'))
    set_scaler(layer, 0.0)
    layer(torch.randn(1, 3, 5, 5)).sum().backward()
    assert layer.weight.grad is not None
    assert all(p.grad is None for p in layer.expand.parameters())
    assert layer.expand.norm1.num_batches_tracked == 0


def test_the_scaler_is_no_tensor_and_in_no_state_dict():
    layer = ReduceConv2d(3, 4, 3)
    assert isinstance(layer.scaler, float)
    assert not [key for key in layer.state_dict() if 'scaler' in key]
    assert 'scaler=1.0' in repr(layer)


def test_a_graft_keeps_dtype_and_mode():
    conv = nn.Conv2d(3, 4, 3).double().eval()
    layer = ReduceConv2d.from_conv(conv, expansion=1)
    assert layer.expand.conv1.weight.dtype == torch.double
    assert not any(module.training for module in layer.modules())


def test_norm_and_activation_follow_their_configs():
    layer = ReduceConv2d(
        3,
        4,
        3,
        norm_cfg=dict(type='GN', num_groups=2),
        act_cfg=dict(type='GELU'),
    )
    assert isinstance(layer.expand.norm2, nn.GroupNorm)
    assert isinstance(layer.expand.act, nn.GELU)


def test_the_root_registry_builds_it():
    cfg = dict(
        type='ReduceConv2d', in_channels=3, out_channels=4, kernel_size=3
    )
    assert isinstance(MODELS.build(cfg), ReduceConv2d)


@pytest.mark.parametrize('expansion', [0, -1, 1.5, '2', True, None])
def test_a_bad_expansion_is_refused(expansion):
    with pytest.raises(ValueError, match=f'got {expansion!r}'):
        ReduceConv2d(3, 4, 3, expansion=expansion)


def test_norms_without_a_scale_are_refused():
    with pytest.raises(ValueError, match='norm_cfg=.*without a scale'):
        ReduceConv2d(3, 4, 3, norm_cfg=dict(type='IN'))


@pytest.mark.parametrize('scaler', [1.0, 0.5])
def test_fusing_a_norm_into_an_active_branch_is_refused(scaler):
    net = nn.Sequential(ReduceConv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    randomise_norms(net).eval()
    set_scaler(net, scaler)
    x = torch.randn(2, 3, 7, 7)
    before = net(x)
    with pytest.raises(RuntimeError, match='branch is active.*set_scaler'):
        fuse_conv_bn(net)
    with pytest.raises(RuntimeError, match='branch is active'):
        fuse_conv_bn_eval(net[0], net[1])
    assert torch.equal(net(x), before)


def test_fusing_at_scaler_0_is_exact_and_ends_the_teacher():
    net = nn.Sequential(ReduceConv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    randomise_norms(net).double().eval()
    set_scaler(net, 0.0)
    x = torch.randn(2, 3, 7, 7, dtype=torch.double)
    before, unfused = net(x), net[0](x)
    net = fuse_conv_bn(net)
    torch.testing.assert_close(net(x), before, rtol=0, atol=1e-10)
    assert not torch.allclose(unfused, before)
    with pytest.raises(RuntimeError, match='only the student is left'):
        set_scaler(net, 1.0)
    assert net[0].scaler == 0
