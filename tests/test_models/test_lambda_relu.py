# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""LambdaReLU: its equation, its two ends, its gate."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from reducenet_mm.models import STUDENT, LambdaReLU, View, apply_view


def at(scaler: float, **settings: bool) -> LambdaReLU:
    act = LambdaReLU(**settings)
    apply_view(act, View(expand=1.0, lora=False, lambda_relu=scaler))
    return act


@pytest.mark.parametrize('scaler', [0.0, 0.25, 0.7, 1.0])
def test_it_computes_the_equation_and_its_gradient(scaler):
    x = torch.randn(50, dtype=torch.double, requires_grad=True)
    out = at(scaler)(x)
    torch.testing.assert_close(out, scaler * x.relu() + (1 - scaler) * x)
    (grad,) = torch.autograd.grad(out.sum(), x)
    slope = torch.where(x > 0, 1.0, 1 - scaler).double()
    torch.testing.assert_close(grad, slope)


def test_the_ends_are_exactly_relu_and_identity():
    x = torch.randn(50)
    assert torch.equal(at(1.0)(x), x.relu())
    assert at(0.0)(x) is x


@pytest.mark.parametrize('scaler', [0.5, 1.0])
def test_inplace_overwrites_and_else_nothing_is_overwritten(scaler):
    x = torch.tensor([-1.0, 2.0])
    at(scaler)(x)
    assert x.tolist() == [-1.0, 2.0]
    at(scaler, inplace=True)(x)
    assert x.tolist() == [scaler - 1, 2.0]


def test_the_gate_is_no_tensor_and_follows_the_view():
    act = MODELS.build(dict(type='LambdaReLU'))
    assert isinstance(act, LambdaReLU)
    assert act.scaler == 1.0 and 'scaler=1.0' in repr(act)
    assert not act.state_dict()
    apply_view(nn.Sequential(act), STUDENT)
    assert act.scaler == 0.0
