# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Views, graft and ungraft."""

import re

import pytest
import torch
from mmcv.cnn import ConvModule, ConvWS2d, fuse_conv_bn
from mmpretrain.models import MobileNetV2, RepVGG, ResNet, SEResNet
from torch import nn
from torch.nn.utils import parametrizations, prune

from reducenet_mm import graft, set_scaler, ungraft
from reducenet_mm.models import (
    STUDENT,
    TEACHER,
    ReduceConv2d,
    ReduceNet,
    View,
    apply_view,
    using_view,
)
from reducenet_mm.models.graft_targets import TARGET_ROLES, convs_by_role
from reducenet_mm.models.supernet import (
    hosts,
    set_gates,
    student_gates,
    student_norms,
)
from tests.conftest import randomise_norms

FIRST_CONVS = r'layer\d\.\d\.conv1'


def scalers(model):
    return [layer.scaler for _, layer in hosts(model)]


def test_views_set_every_gate():
    net = ReduceNet(8, base_channels=4)
    assert scalers(net) == [1.0] * 3
    apply_view(net, STUDENT)
    assert scalers(net) == [0.0] * 3
    set_scaler(net, 0.25)
    assert scalers(net) == [0.25] * 3
    with using_view(net, TEACHER):
        assert scalers(net) == [1.0] * 3
    assert scalers(net) == [0.25] * 3


def test_the_two_views_and_those_between():
    assert TEACHER == View(expand=1.0, lora=False, lambda_relu=1.0)
    assert STUDENT == View(expand=0.0, lora=True, lambda_relu=0.0)
    between = View(expand=0.5, lora=True, lambda_relu=0.5)
    assert View.of_scaler(0.5) == between
    with pytest.raises(ValueError, match='lora on .* got 1'):
        View(expand=0.0, lora=1, lambda_relu=0.0)


def test_using_view_restores_gates_after_an_error():
    net = ReduceNet(8, base_channels=4)
    next(hosts(net))[1].scaler = 0.5
    with pytest.raises(KeyError), using_view(net, STUDENT):
        raise KeyError
    assert scalers(net) == [0.5, 1.0, 1.0]


def test_gates_can_be_set_one_by_one():
    lora = dict(kind='kxk_1x1', act=True)
    net = ReduceNet(8, base_channels=4, scaler=0.0, lora=lora)
    expand = student_gates(net, 'expand')
    relu = student_gates(net, 'lambda_relu')
    assert list(expand) == [f'layer{i}.0.conv1' for i in (1, 2, 3)]
    assert list(relu) == [f'{name}.lora.pair.act' for name in expand]
    (last,) = [n for n in expand if n.startswith('layer3')]
    set_gates({last: expand[last]}, 0.25)
    assert scalers(net) == [0.0, 0.0, 0.25]
    assert {gate.scaler for gate in relu.values()} == {0.0}
    assert {host.lora.scaler for _, host in hosts(net)} == {1.0}
    with pytest.raises(ValueError, match=r'got 2\.'):
        set_gates(expand, 2)
    assert scalers(net) == [0.0, 0.0, 0.25]


def test_gates_inside_a_branch_are_not_the_students():
    cfg = dict(block='sequential', student_conv='merged')
    net = ReduceNet(8, base_channels=4, **cfg)
    assert len(student_gates(net, 'expand')) == 3
    assert not student_gates(net, 'lambda_relu')
    pair = ReduceNet(8, base_channels=4, block='sequential')
    assert len(student_gates(pair, 'lambda_relu')) == 3
    assert not student_gates(pair, 'expand')


def test_no_gate_opens_beside_a_folded_norm():
    net = fuse_conv_bn(ReduceNet(8, base_channels=4, scaler=0.0).eval())
    gates = student_gates(net, 'expand')
    with pytest.raises(RuntimeError, match='cannot switch on .*scaler=0.5'):
        set_gates(gates, 0.5)
    assert scalers(net) == [0.0] * 3
    set_gates(gates, 0.0)


@pytest.mark.parametrize('value', [-0.1, 1.1, float('nan'), '1', None, True])
def test_a_bad_scaler_is_refused(value):
    net = ReduceNet(8, base_channels=4)
    with pytest.raises(ValueError, match=r'scaler must be .* in \[0, 1\]'):
        set_scaler(net, value)
    for gate in ('expand', 'lambda_relu'):
        with pytest.raises(ValueError, match='scaler'):
            View(**{**dict(expand=0, lora=False, lambda_relu=0), gate: value})
    assert scalers(net) == [1.0] * 3


def test_a_model_without_branches_has_nothing_to_switch():
    with pytest.raises(ValueError, match='no ReduceNet branch'):
        set_scaler(nn.Conv2d(3, 3, 1), 0.0)


def test_graft_is_the_identity_and_keeps_the_host_keys():
    net = randomise_norms(ResNet(18))
    net.eval()
    keys, x = list(net.state_dict()), torch.randn(1, 3, 32, 32)
    before = net(x)[0]
    assert graft(net, FIRST_CONVS, expansion=2) is net
    assert len(list(hosts(net))) == 8
    assert torch.equal(net(x)[0], before)
    after = net.state_dict()
    assert [k for k in after if '.expand.' not in k] == keys
    for _, layer in hosts(net):
        nn.init.ones_(layer.expand.norm2.weight)
    assert not torch.allclose(net(x)[0], before)


def test_a_grafted_network_loads_the_hosts_checkpoint():
    host = randomise_norms(ResNet(18))
    net = graft(ResNet(18), FIRST_CONVS)
    result = net.load_state_dict(host.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert all('.expand.' in key for key in result.missing_keys)
    x = torch.randn(1, 3, 32, 32)
    net.eval(), host.eval()
    assert torch.equal(net(x)[0], host(x)[0])


def test_graft_takes_several_patterns_or_a_predicate():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3)
    )
    graft(net, ['0', '1'])
    graft(net, lambda name, conv: conv.kernel_size == (3, 3))
    assert [type(m) for m in net] == [ReduceConv2d] * 3


@pytest.mark.parametrize(
    ('targets', 'message'),
    [
        ('layer9.*', "'layer9.*'] match no convolution"),
        (['0', 'nothing'], "'nothing'] match no convolution"),
        (lambda name, conv: False, 'match no convolution'),
        ('2', 'cannot graft `2`: a ReduceConv2d is not a plain'),
    ],
)
def test_graft_refuses_and_leaves_the_model_unchanged(targets, message):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), ReduceConv2d(4, 4, 1))
    with pytest.raises(ValueError) as error:
        graft(net, targets)
    assert message in str(error.value)
    assert type(net[0]) is nn.Conv2d


def lazy() -> nn.Module:
    return nn.LazyConv2d(4, 1)


def weight_normed() -> nn.Module:
    return parametrizations.weight_norm(nn.Conv2d(3, 4, 1))


def spectral_normed() -> nn.Module:
    return nn.utils.spectral_norm(nn.Conv2d(3, 4, 1))


def pruned() -> nn.Module:
    return prune.random_unstructured(nn.Conv2d(3, 4, 1), 'weight', 0.5)


def hooked() -> nn.Module:
    conv = nn.Conv2d(3, 4, 1)
    conv.register_forward_hook(lambda *_: None)
    return conv


def deformable() -> nn.Module:
    layer = nn.Module()  # as MMCV's, which needs its compiled operations
    layer.weight = nn.Parameter(torch.zeros(4, 3, 1, 1))
    layer.conv_offset = nn.Conv2d(3, 2, 1)
    return layer


def folding() -> nn.Module:
    norm_cfg = dict(type='BN')
    return ConvModule(3, 4, 1, norm_cfg=norm_cfg, efficient_conv_bn_eval=True)


@pytest.mark.parametrize(
    ('build', 'name', 'reason'),
    [
        (lazy, 'odd', 'a LazyConv2d has no shape before its first batch'),
        (weight_normed, 'odd', 'computed from others'),
        (spectral_normed, 'odd', 'weight_orig.* only weight and bias'),
        (pruned, 'odd', 'weight_mask.* only weight and bias'),
        (hooked, 'odd', 'it has hooks, which a graft would lose'),
        (deformable, 'odd', 'a Module is not a plain nn.Conv2d'),
        (folding, 'odd.conv', 'efficient_conv_bn_eval'),
        (lambda: nn.ConvTranspose2d(3, 4, 1), 'odd', 'a ConvTranspose2d is'),
        (lambda: nn.Conv1d(3, 4, 1), 'odd', 'a Conv1d is not a plain'),
        (lambda: ConvWS2d(3, 4, 1), 'odd', 'a ConvWS2d is not a plain'),
    ],
)
def test_graft_refuses_by_name_what_it_cannot_graft(build, name, reason):
    net = nn.ModuleDict(dict(good=nn.Conv2d(3, 4, 1), odd=build()))
    message = f'cannot graft `{name}`: .*{reason}.* Leave it out'
    with pytest.raises(ValueError, match=message):
        graft(net, ['good', 'odd(.conv)?'])
    assert type(net['good']) is nn.Conv2d
    graft(net, 'good')


def test_graft_refuses_what_is_in_two_places():
    shared, tied = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
    net = nn.ModuleDict(dict(a=shared, b=shared, c=tied, d=nn.Conv2d(3, 4, 1)))
    net['d'].weight = tied.weight
    for name, other in (('a', 'b'), ('c', 'd'), ('d', 'c')):
        message = f'`{name}`: it shares its parameters with `{other}`'
        with pytest.raises(ValueError, match=message):
            graft(net, name)
    assert not list(hosts(net))


def test_a_refusal_names_all_it_holds_for():
    net = nn.Sequential(*(ConvWS2d(3, 4, 1) for _ in range(5)))
    with pytest.raises(ValueError, match='`0`, `1`, `2` and 2 more: a Conv'):
        graft(net, lambda name, conv: True)


def test_targets_by_role():
    net = MobileNetV2(widen_factor=0.25)
    roles = convs_by_role(net)
    assert 'layer1.0.conv.0.conv' in roles['block_first_conv']
    assert 'layer1.0.conv.0.conv' in roles['depthwise']
    assert 'layer2.0.conv.0.conv' in roles['pointwise']
    assert [len(roles[role]) for role in TARGET_ROLES] == [17, 17, 34]
    whole = nn.ModuleDict(dict(backbone=net, neck=nn.Conv2d(3, 4, 1)))
    assert convs_by_role(whole)['pointwise'] == {
        f'backbone.{name}' for name in roles['pointwise']
    }
    se = SEResNet(50)
    pointwise = convs_by_role(se)['pointwise']
    assert pointwise == {
        name
        for name, module in se.named_modules()
        if re.fullmatch(r'layer\d\.\d\.conv[13]', name)
    }
    graft(net, ['block_first_conv', r'conv1\.conv'])
    assert {n for n, _ in hosts(net)} == {
        *roles['block_first_conv'],
        'conv1.conv',
    }


def test_a_role_that_nothing_plays_or_a_bad_pattern_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(ValueError, match="'depthwise'] match no convolution"):
        graft(net, 'depthwise')
    with pytest.raises(ValueError, match=r"'\(' is no regular expression"):
        graft(net, '(')


@pytest.mark.parametrize('targets', [[], None, 3, ''])
def test_targets_that_are_none_are_refused(targets):
    with pytest.raises(ValueError, match='targets must be'):
        graft(nn.Sequential(nn.Conv2d(1, 1, 1)), targets)


def test_graft_refuses_a_host_that_folds_by_itself():
    host = RepVGG('A0')
    with pytest.raises(ValueError, match='switch_to_deploy'):
        graft(host, r'stage_1.*conv')
    assert next(hosts(host), None) is None


def test_graft_refuses_a_host_that_uses_a_branchs_name():
    net = nn.ModuleDict(
        dict(expand=nn.Conv2d(3, 4, 1), other=nn.Conv2d(3, 4, 1))
    )
    with pytest.raises(ValueError, match='`expand` has the name of one'):
        graft(net, 'other')


def test_graft_checks_the_expansion_before_it_changes_anything():
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    with pytest.raises(ValueError, match='expansion must be'):
        graft(net, '0', expansion=0)
    assert type(net[0]) is nn.Conv2d


@pytest.mark.parametrize('depth', [8, 18])
def test_ungraft_is_exactly_the_student(depth):
    net = randomise_norms(ReduceNet(depth, expansion=2)).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    teacher = net(x)[0]
    set_scaler(net, 0.0)
    student = net(x)[0]
    plain = ungraft(net)
    assert not [m for m in plain.modules() if isinstance(m, ReduceConv2d)]
    assert not [k for k in plain.state_dict() if '.expand.' in k]
    torch.testing.assert_close(plain(x)[0], student, rtol=0, atol=1e-10)
    assert not torch.allclose(plain(x)[0], teacher)


def test_student_norms_leave_out_the_branches():
    net = ReduceNet(8, base_channels=4)
    names = [name for name, _ in student_norms(net)]
    assert len(names) == 9
    assert not [name for name in names if 'expand' in name]
