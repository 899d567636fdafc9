# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Merges are exact in float64, and skipping any part of one is seen."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reducenet_mm.models.layers.merge import (
    absorb_bias,
    add_parallel,
    check_centred,
    fold_norm,
    merge_sequential_1x1,
)
from tests.conftest import randomise_norms

EXACT = dict(rtol=0, atol=1e-10)
GEOMETRIES = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, padding=1, stride=2),
    dict(kernel_size=3),
    dict(kernel_size=(3, 1), padding=(1, 0)),
    dict(kernel_size=3, padding=2, dilation=2),
    dict(kernel_size=3, padding='same'),
    dict(kernel_size=3, padding=1, padding_mode='reflect'),
    dict(kernel_size=3, padding=1, groups=2),
    dict(kernel_size=5, padding=2, groups=2, stride=(2, 1)),
]


def differ(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two outputs are further apart than rounding could explain."""
    return a.shape != b.shape or (a - b).abs().max().item() > 1e-3


def conv(c_in: int, c_out: int, **geometry) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, **geometry).double()


def norm(channels: int, **settings: bool) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels, **settings)
    if layer.affine:
        randomise_norms(layer)
    else:
        nn.init.uniform_(layer.running_mean, -0.5, 0.5)
        nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return layer.double().eval()


def fold(layer: nn.Conv2d, bn: nn.BatchNorm2d):
    stats = bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    return fold_norm(layer.weight, layer.bias, *stats)


def run(geometry_of: nn.Conv2d, weight, bias, x):
    """Convolve with other weights but the same geometry."""
    plain = conv(
        x.shape[1],
        len(weight),
        kernel_size=weight.shape[2:],
        stride=geometry_of.stride,
        padding=geometry_of.padding,
        dilation=geometry_of.dilation,
        groups=geometry_of.groups,
        padding_mode=geometry_of.padding_mode,
        bias=bias is not None,
    )
    plain.weight = nn.Parameter(weight)
    plain.bias = None if bias is None else nn.Parameter(bias)
    return plain(x)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 4, 9, 9, dtype=torch.double)


@pytest.mark.parametrize('geometry', GEOMETRIES)
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('affine', [True, False])
def test_a_folded_norm_is_the_norm(x, geometry, bias, affine):
    layer, bn = conv(4, 6, bias=bias, **geometry), norm(6, affine=affine)
    wanted = bn(layer(x))
    weight, shift = fold(layer, bn)
    torch.testing.assert_close(run(layer, weight, shift, x), wanted, **EXACT)
    assert differ(run(layer, weight, None, x), wanted)
    assert differ(layer(x), wanted)


@pytest.mark.parametrize('geometry', GEOMETRIES)
@pytest.mark.parametrize('between', [True, False])
@pytest.mark.parametrize('bias', [True, False])
def test_kxk_then_1x1_is_one_convolution(x, geometry, between, bias):
    first = conv(4, 8, bias=bias, **geometry)
    second = conv(8, 6, kernel_size=1, groups=first.groups, bias=bias)
    bn = norm(8)
    wanted = second(bn(first(x)) if between else first(x))
    start = fold(first, bn) if between else (first.weight, first.bias)
    weight, shift = merge_sequential_1x1(
        *start, second.weight, second.bias, first.groups
    )
    assert weight.shape == (6, 4 // first.groups, *first.kernel_size)
    torch.testing.assert_close(run(first, weight, shift, x), wanted, **EXACT)
    assert (shift is None) == (not between and not bias)
    if shift is not None:
        assert differ(run(first, weight, None, x), wanted)
    if between:
        unfolded, _ = merge_sequential_1x1(
            first.weight, None, second.weight, None, first.groups
        )
        assert differ(run(first, unfolded, shift, x), wanted)


CENTRED = [g for g in GEOMETRIES if g != dict(kernel_size=3)]


@pytest.mark.parametrize('geometry', CENTRED)
@pytest.mark.parametrize('bias', [True, False])
def test_a_parallel_1x1_goes_into_the_centre(x, geometry, bias):
    main = conv(4, 6, bias=False, **geometry)
    branch = conv(
        4,
        6,
        kernel_size=1,
        stride=main.stride,
        groups=main.groups,
        bias=bias,
    )
    wanted = main(x) + branch(x)
    weight, shift = add_parallel(
        main.weight,
        main.bias,
        branch.weight,
        branch.bias,
        main.padding,
        main.dilation,
    )
    torch.testing.assert_close(run(main, weight, shift, x), wanted, **EXACT)
    assert differ(main(x), wanted)
    off_centre = main.weight + F.pad(
        branch.weight,
        (0, weight.shape[3] - 1, 0, weight.shape[2] - 1),
    )
    assert differ(run(main, off_centre, shift, x), wanted)


def test_parallel_convolutions_of_one_shape_add_up(x):
    a, b = (conv(4, 6, kernel_size=4, padding=1) for _ in range(2))
    merged = add_parallel(a.weight, a.bias, b.weight, b.bias)
    torch.testing.assert_close(run(a, *merged, x), a(x) + b(x), **EXACT)


@pytest.mark.parametrize(
    'geometry',
    [
        dict(kernel_size=3),
        dict(kernel_size=4, padding=1),
        dict(kernel_size=2, padding=1, dilation=2),
        dict(kernel_size=4, padding='same', dilation=2),
        dict(kernel_size=3, padding='valid'),
        dict(kernel_size=3, padding=1, dilation=2),
        dict(kernel_size=(3, 5), padding=1),
    ],
)
def test_a_kernel_off_centre_is_refused(geometry):
    main = conv(4, 6, **geometry)
    branch = conv(4, 6, kernel_size=1)
    with pytest.raises(ValueError, match='centred kernel.*kernel_size='):
        add_parallel(
            main.weight,
            main.bias,
            branch.weight,
            branch.bias,
            main.padding,
            main.dilation,
        )
    check_centred((3, 5), (1, 2), 1)


def test_a_norm_absorbs_the_bias_before_it(x):
    layer, bn = conv(4, 6, kernel_size=3), norm(6)
    wanted = bn(layer(x))
    without = run(layer, layer.weight, None, x)
    assert differ(bn(without), wanted)
    bn.running_mean.copy_(absorb_bias(layer.bias.detach(), bn.running_mean))
    torch.testing.assert_close(bn(without), wanted, **EXACT)


def weight(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda: fold_norm(weight(6, 4, 3, 3), None, None, None, 1e-5),
            'without running statistics.*track_running_stats',
        ),
        (
            lambda: fold_norm(
                weight(6, 4, 3, 3), None, weight(5), weight(5), 1e-5
            ),
            'a norm of 5 channels .* 6 outputs',
        ),
        (
            lambda: absorb_bias(weight(4), weight(5)),
            'bias of 4 channels in a norm of 5',
        ),
        (
            lambda: merge_sequential_1x1(
                weight(8, 4, 1, 1), None, weight(6, 8, 3, 3)
            ),
            r'second convolution must be 1 x 1.*\(6, 8, 3, 3\)',
        ),
        (
            lambda: merge_sequential_1x1(
                weight(8, 4, 3, 3), None, weight(6, 8, 1, 1), groups=2
            ),
            'cannot follow one .* with groups=2',
        ),
        (
            lambda: add_parallel(
                weight(8, 4, 3, 3), None, weight(8, 2, 1, 1), None, 1
            ),
            'cannot add',
        ),
        (
            lambda: add_parallel(
                weight(8, 4, 3, 3), None, weight(8, 4, 5, 5), None, 1
            ),
            r'cannot add .* \(8, 4, 5, 5\) .* \(8, 4, 3, 3\)',
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
