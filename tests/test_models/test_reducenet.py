# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The backbones: published counts, keys, and what MMPretrain users expect."""

import pytest
import torch
from mmpretrain.models import ResNet
from mmpretrain.registry import MODELS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from reducenet_mm import set_scaler, ungraft
from reducenet_mm.models import PlainResNet, ReduceNet
from reducenet_mm.models.backbones.reduce_blocks import BLOCKS
from reducenet_mm.models.supernet import hosts
from tests.conftest import randomise_norms

# Depth, width, (teacher, student) parameters and conv + linear multiply-adds
# on 32x32 images with 10 classes: the table of `ohmydroid/reducenet`, whose
# multiply-adds are rounded to 0.1 million.
PUBLISHED = [
    (20, 16, (412_058, 272_474), (62.0, 40.8)),
    (20, 32, (1_640_234, 1_084_586), (247.3, 162.4)),
    (20, 64, (6_544_970, 4_327_754), (987.4, 647.7)),
    (56, 16, (1_320_602, 855_770), (194.2, 125.7)),
    (56, 32, (5_263_658, 3_412_394), (775.8, 502.1)),
]


def count(model):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    params = sum(p.numel() for p in model.parameters())
    return params, counter.get_total_flops() / 2e6


@pytest.mark.parametrize(('depth', 'width', 'params', 'madds'), PUBLISHED)
def test_counts_equal_the_published_table(depth, width, params, madds):
    with torch.device('cpu'):
        net = nn.Sequential(
            ReduceNet(depth, base_channels=width), _Head(4 * width)
        ).eval()
    teacher = count(net)
    set_scaler(net, 0.0)
    _, student_madds = count(net)
    student = count(ungraft(net))
    assert (teacher[0], student[0]) == params
    assert (round(teacher[1], 1), round(student[1], 1)) == madds
    assert student_madds == student[1]


class _Head(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Linear(channels, 10)

    def forward(self, feats):
        return self.fc(feats[-1].mean((2, 3)))


@pytest.mark.parametrize('depth', sorted({*range(8, 111, 6)} - {50}))
def test_every_cifar_depth_has_that_many_layers(depth):
    net = PlainResNet(depth, base_channels=2)
    convs = [
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d) and 'downsample' not in name
    ]
    assert len(convs) + 1 == depth  # and the classifier


@pytest.mark.parametrize('depth', [18, 34])
def test_imagenet_layouts_are_mmpretrains_resnet(depth):
    stock = randomise_norms(ResNet(depth))
    stock.eval()
    plain = PlainResNet(depth).eval()
    plain.load_state_dict(stock.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(plain(x)[0], stock(x)[0])


@pytest.mark.parametrize('depth', [8, 18])
def test_the_student_is_the_plain_network(depth):
    net = randomise_norms(ReduceNet(depth, scaler=0.0)).eval()
    plain = PlainResNet(depth).eval()
    state = net.state_dict()
    plain.load_state_dict({k: state[k] for k in plain.state_dict()})
    assert {k for k in state if '.expand.' not in k} == {*plain.state_dict()}
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(net(x)[0], plain(x)[0])
    set_scaler(net, 1.0)
    assert not torch.allclose(net(x)[0], plain(x)[0])


def test_without_out_act_no_activation_follows_the_sum():
    net = PlainResNet(8, base_channels=4, out_act=False).eval()
    stock = PlainResNet(8, base_channels=4).eval()
    stock.load_state_dict(net.state_dict(), strict=True)
    x = torch.randn(2, 4, 8, 8)
    first, ended = net.layer1[0], stock.layer1[0]
    assert (first(x) < 0).any()
    torch.testing.assert_close(first(x).relu(), ended(x))


def test_branches_follow_the_expansion():
    net = ReduceNet(8, base_channels=4, expansion=3)
    widths = [layer.expand.conv1.out_channels for _, layer in hosts(net)]
    assert widths == [3 * 4, 3 * 8, 3 * 16]


def test_out_indices_and_shapes():
    net = ReduceNet(14, base_channels=4, out_indices=(0, 2))
    shapes = [tuple(f.shape) for f in net(torch.randn(2, 3, 16, 16))]
    assert shapes == [(2, 4, 16, 16), (2, 16, 4, 4)]
    net = ReduceNet(18, base_channels=4)
    assert net(torch.randn(1, 3, 64, 64))[0].shape == (1, 32, 2, 2)


def test_frozen_stages_freeze_branches_too_and_keep_statistics():
    net = ReduceNet(8, base_channels=4, frozen_stages=1).train()
    trained = {
        n.split('.')[0] for n, p in net.named_parameters() if p.requires_grad
    }
    assert trained == {'layer2', 'layer3'}
    assert not any(m.training for m in net.layer1.modules())
    before = net.layer1[0].conv1.expand.norm1.running_mean.clone()
    net(torch.randn(2, 3, 8, 8))
    assert torch.equal(net.layer1[0].conv1.expand.norm1.running_mean, before)


def test_branches_that_cannot_learn_are_told_of(logged):
    def told():
        return [line for line in logged if 'branches' in line]

    for block in BLOCKS:
        ReduceNet(8, base_channels=4, block=block)
    groups = dict(type='GN', num_groups=1)
    ReduceNet(8, base_channels=4, norm_eval=True, norm_cfg=groups)
    assert not told()
    ReduceNet(8, base_channels=4, frozen_stages=1)
    ReduceNet(8, base_channels=4, norm_eval=True)
    frozen, idle = told()
    assert frozen.startswith('1 branches of ReduceNet')
    assert '`layer1.0.conv1`' in frozen and 'zero_init_expand=True' in frozen
    assert idle.startswith('norm_eval=True of ReduceNet keeps')


def test_norm_eval_keeps_all_statistics():
    net = ReduceNet(8, base_channels=4, norm_eval=True).train()
    before = {k: v.clone() for k, v in net.named_buffers()}
    net(torch.randn(2, 3, 8, 8))
    assert all(torch.equal(v, before[k]) for k, v in net.named_buffers())
    assert net.layer1.training


def test_with_cp_gives_the_same_gradients():
    plain = ReduceNet(8, base_channels=4)
    saving = ReduceNet(8, base_channels=4, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    for net in (plain, saving):
        torch.manual_seed(1)
        x = torch.randn(2, 3, 8, 8, requires_grad=True)
        net(x)[0].square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_norm_and_activation_configs_reach_every_layer():
    net = ReduceNet(
        8,
        base_channels=4,
        norm_cfg=dict(type='GN', num_groups=2),
        act_cfg=dict(type='SiLU'),
    )
    types = {type(m) for m in net.modules()}
    assert nn.GroupNorm in types and nn.SiLU in types
    assert not types & {nn.BatchNorm2d, nn.ReLU}


@pytest.mark.parametrize('zero_init_expand', [False, True])
def test_init_weights_starts_the_branches_as_asked(zero_init_expand):
    net = ReduceNet(8, base_channels=4, zero_init_expand=zero_init_expand)
    net.init_weights()
    scales = torch.cat([h.expand.norm2.weight for _, h in hosts(net)])
    assert torch.equal(scales, torch.full_like(scales, not zero_init_expand))
    last = torch.cat(
        [
            block[0].norm2.weight
            for block in (net.layer1, net.layer2, net.layer3)
        ]
    )
    assert not last.any()  # zero_init_residual
    x = torch.randn(2, 3, 8, 8)
    nn.init.ones_(net.layer1[0].norm2.weight)
    teacher = net.train()(x)[0]
    set_scaler(net, 0.0)
    assert torch.equal(net(x)[0], teacher) == zero_init_expand


def test_init_cfg_pretrained_loads_a_plain_checkpoint(tmp_path):
    plain = randomise_norms(PlainResNet(8, base_channels=4))
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'plain.pth')
    net = ReduceNet(
        8,
        base_channels=4,
        zero_init_expand=True,
        init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'plain.pth')
        ),
    )
    net.init_weights()
    x = torch.randn(1, 3, 16, 16)
    assert torch.equal(net.eval()(x)[0], plain.eval()(x)[0])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(depth=9), 'depth must be 18, 34 or 6n.2 .* got 9'),
        (dict(depth=116), 'got 116'),
        (dict(depth=50), "got 50.*GraftedBackbone.*ResNet', depth=50"),
        (dict(depth='20'), "got '20'"),
        (dict(block='bottleneck'), "unknown block 'bottleneck'.*postsum"),
        (dict(expansion=0), 'expansion must be an integer >= 1, got 0'),
        (dict(scaler=1.5), r'scaler must be .* got 1\.5'),
        (dict(base_channels=0), 'base_channels .* got 0'),
        (dict(out_indices=(3,)), r'out_indices .* 0 to 2 .* got \(3,\)'),
        (dict(out_indices=()), 'out_indices'),
        (dict(frozen_stages=4), 'frozen_stages .* -1 to 3 .* got 4'),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ReduceNet(**{'depth': 8, **arguments})


def test_both_are_in_mmpretrains_registry():
    for name, cls in dict(
        ReduceNet=ReduceNet, PlainResNet=PlainResNet
    ).items():
        assert type(MODELS.build(dict(type=name, depth=8))) is cls


def test_the_scaler_of_a_config_chooses_the_network():
    nets = [
        MODELS.build(dict(type='ReduceNet', depth=8, scaler=s)).eval()
        for s in (1.0, 0.0)
    ]
    nets[1].load_state_dict(nets[0].state_dict())
    x = torch.randn(1, 3, 16, 16)
    student = nets[1](x)[0]
    set_scaler(nets[0], 0.0)
    assert torch.equal(nets[0](x)[0], student)
