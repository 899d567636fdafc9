# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""ReduceConv2d and ExpandBranch: the equation, the keys, the refusals."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import fuse_conv_bn
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmengine.registry import MODELS
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from reducenet_mm import set_scaler
from reducenet_mm.models import ReduceConv2d
from reducenet_mm.models.layers.adaptive_conv import AdaptiveReduceConv2d
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
    dict(kernel_size=3, padding=1, groups=2, stride=2),
    dict(kernel_size=2, stride=2),
    dict(kernel_size=3, padding='valid', dilation=2),
    dict(kernel_size=3, padding=1, padding_mode='replicate'),
    dict(kernel_size=(5, 3), padding=(2, 1), padding_mode='circular'),
    dict(kernel_size=3, padding='same', groups=4, padding_mode='circular'),
]
EXACT = dict(rtol=0, atol=1e-10)


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


def padded(conv: nn.Conv2d, x: torch.Tensor, padding: tuple) -> torch.Tensor:
    if conv.padding_mode == 'zeros':
        return F.pad(x, padding)
    return F.pad(x, padding, mode=conv.padding_mode)


@pytest.mark.parametrize('groups', [1, 2, 4])
@pytest.mark.parametrize('mode', ['zeros', 'reflect', 'replicate', 'circular'])
def test_the_formula_beside_groups(groups, mode):
    geometry = dict(kernel_size=3, padding=2, dilation=2, groups=groups)
    layer = ReduceConv2d(4, 8, expansion=3, padding_mode=mode, **geometry)
    randomise_norms(layer).double().eval()
    expand = layer.expand
    x = torch.randn(2, 4, 9, 9, dtype=torch.double)
    wide = [
        F.conv2d(part, weight, dilation=2)
        for part, weight in zip(
            padded(layer, x, (2, 2, 2, 2)).chunk(groups, 1),
            expand.conv1.weight.chunk(groups),
        )
    ]
    inner = expand.norm1(torch.cat(wide, 1)).relu()
    mixed = torch.einsum(
        'om,nmhw->nohw', expand.conv2.weight[..., 0, 0], inner
    )
    expected = nn.Conv2d.forward(layer, x) + expand.norm2(mixed)
    torch.testing.assert_close(layer(x), expected, **EXACT)
    x[:, :1] += 1  # into the first group only
    last = slice(8 - 8 // groups, None)
    assert (layer(x) - expected)[:, last].abs().max() > 1e-3
    if groups > 1:  # where the student does not see it
        main = nn.Conv2d.forward(layer, x)
        x[:, :1] -= 1
        same = nn.Conv2d.forward(layer, x)[:, last]
        torch.testing.assert_close(main[:, last], same, **EXACT)


@pytest.mark.parametrize('kernel', [1, 5, (1, 3), [7, 1]])
@pytest.mark.parametrize(
    'geometry',
    [
        dict(kernel_size=3, padding=1, stride=2),
        dict(kernel_size=3, padding=2, dilation=2, groups=4),
        dict(kernel_size=5, padding=3, padding_mode='replicate'),
        dict(kernel_size=(1, 3), padding='same', padding_mode='circular'),
    ],
)
def test_a_kernel_of_its_own_keeps_shape_and_centre(geometry, kernel):
    layer = ReduceConv2d(4, 8, kernel=kernel, **geometry).double()
    host = ReduceConv2d(4, 8, **geometry).double()
    size = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
    assert layer.expand.conv1.kernel_size == size
    point = torch.randn_like(layer.expand.conv1.weight[..., :1, :1])
    for one in (layer, host):  # only the centre of each kernel
        weight = one.expand.conv1.weight
        sides = [side // 2 for side in weight.shape[2:]]
        with torch.no_grad():
            weight.zero_()
            weight[..., sides[0], sides[1]] = point[..., 0, 0]
    x = torch.randn(2, 4, 9, 8, dtype=torch.double)
    expected = host.expand.conv1(x)
    torch.testing.assert_close(layer.expand.conv1(x), expected, **EXACT)
    assert layer(x).shape == host(x).shape
    shifted = host.expand.conv1(x.roll(1, dims=2))
    assert not torch.allclose(shifted, expected)


@pytest.mark.parametrize(
    ('geometry', 'kernel', 'message'),
    [
        (dict(kernel_size=3), 2, 'odd integer >= 1 or two of them, got 2'),
        (dict(kernel_size=3), 0, 'odd integer .* got 0'),
        (dict(kernel_size=3), True, 'odd integer .* got True'),
        (dict(kernel_size=3), (3, 3, 3), 'odd integer .* got'),
        (dict(kernel_size=3), 3.0, r'odd integer .* got 3\.0'),
        (dict(kernel_size=3), '3', "odd integer .* got '3'"),
        (dict(kernel_size=2, stride=2), 3, 'half a pixel'),
        (dict(kernel_size=3), 1, r'would need the padding \(-1, -1\)'),
        (dict(kernel_size=3, padding='valid'), 1, 'would need the padding'),
    ],
)
def test_a_kernel_that_does_not_fit_is_refused(geometry, kernel, message):
    with pytest.raises(ValueError, match=message):
        ReduceConv2d(3, 4, kernel=kernel, **geometry)


def adaptive(**geometry) -> Conv2dAdaptivePadding:
    return Conv2dAdaptivePadding(4, 8, **geometry).double()


ADAPTIVE = [
    dict(kernel_size=3, stride=2),
    dict(kernel_size=5, stride=2, groups=4, bias=False),
    dict(kernel_size=3, stride=1, dilation=2),
    dict(kernel_size=1, stride=2),
]


@pytest.mark.parametrize('geometry', ADAPTIVE)
@pytest.mark.parametrize('shape', [(8, 8), (9, 6)])
def test_adaptive_padding_is_kept(geometry, shape):
    conv = adaptive(**geometry)
    lora = dict(kind='kxk_1x1', inner_norm=True)
    layer = AdaptiveReduceConv2d.from_conv(conv, 2, lora=lora)
    x = torch.randn(2, 4, *shape, dtype=torch.double)
    before = conv(x)
    assert torch.equal(layer(x), before)
    randomise_norms(layer).eval()
    nn.init.normal_(layer.lora.pair.conv2.weight)
    teacher = layer(x)
    set_scaler(layer, 0.0)
    student = layer(x)
    plain = layer.student_conv()
    assert type(plain) is Conv2dAdaptivePadding
    torch.testing.assert_close(plain(x), student, **EXACT)
    assert (student - before).abs().max() > 1e-2
    assert (teacher - before).abs().max() > 1e-2
    torch.testing.assert_close(
        teacher - before, layer.expand(layer.padded(x)), **EXACT
    )


def test_without_its_padding_an_adaptive_graft_would_be_wrong():
    conv = adaptive(**ADAPTIVE[0])
    x = torch.randn(2, 4, 8, 8, dtype=torch.double)
    layer = AdaptiveReduceConv2d.from_conv(conv, 1)
    assert layer.main(x).shape != conv(x).shape
    assert [tuple(layer.padded(x).shape[2:])] == [(9, 9)]


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


@pytest.mark.parametrize('scaler', [1.0, 0.5, 0.0])
def test_assigned_parameters_are_loaded_for_all_views(scaler):
    """`load_state_dict(assign=True)` is no folded norm."""
    net, other = ReduceConv2d(3, 4, 3), ReduceConv2d(3, 4, 3)
    set_scaler(net, scaler)
    net.load_state_dict(other.state_dict(), assign=True)
    assert net.scaler == scaler and not net.refitted
    x = torch.randn(2, 3, 7, 7)
    for value in (1.0, 0.0):
        set_scaler(net, value)
        set_scaler(other, value)
        assert torch.equal(net(x), other(x))
    set_scaler(net, 1.0)
    with pytest.raises(RuntimeError, match='branch is active'):
        net.weight = nn.Parameter(torch.zeros_like(net.weight))
