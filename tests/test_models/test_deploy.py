# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""switch_to_deploy and deploy=True of backbones and blocks."""

from __future__ import annotations

import copy

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmpretrain.models.backbones.resnet import BasicBlock
from mmpretrain.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from reducenet_mm import set_scaler, ungraft
from reducenet_mm.models import PlainResNet, ReduceNet, View, apply_view
from reducenet_mm.models.backbones.parallel_block import ParallelBlock
from reducenet_mm.models.deploy import Deployable, conv_norm_pairs
from reducenet_mm.models.layers import ExpandBranch, Gated, SequentialConv2d
from reducenet_mm.models.supernet import hosts
from tests.conftest import randomise_norms
from tests.test_models.blocks import EXACT, images
from tests.test_models.deployed import (
    CASES,
    deployed,
    norms_dropped,
    supernet,
)

every_case = pytest.mark.parametrize('case', CASES)
GROUP_NORM = dict(type='GN', num_groups=2)


@every_case
def test_the_switch_leaves_the_student_of_every_kind(case):
    net, x = supernet(case), images()
    student = net(x)[0]
    plain = deployed(net)
    torch.testing.assert_close(plain(x)[0], student, **EXACT)
    assert (norms_dropped(net)(x)[0] - student).abs().max() > 1e-3
    set_scaler(net, 1.0)
    assert (net(x)[0] - student).abs().max() > 1e-3


@every_case
def test_deploy_true_builds_what_the_switch_leaves(case, monkeypatch):
    net, x = supernet(case), images()
    plain = deployed(net)
    settings = dict(depth=8, base_channels=4, expansion=2, **CASES[case])
    for kind in (ExpandBranch, SequentialConv2d):
        monkeypatch.setattr(
            kind, '__init__', lambda *_: pytest.fail('a branch was built')
        )
    built = ReduceNet(deploy=True, **settings).double().eval()
    built.load_state_dict(plain.state_dict(), strict=True)
    torch.testing.assert_close(built(x)[0], net(x)[0], **EXACT)
    shapes = {key: value.shape for key, value in plain.state_dict().items()}
    assert shapes == {k: v.shape for k, v in built.state_dict().items()}
    assert str(built) == str(plain)


@every_case
def test_only_plain_convolutions_and_activations_are_left(case):
    plain = deployed(supernet(case))
    leaves = {type(m) for m in plain.modules() if not list(m.children())}
    assert leaves == {nn.Conv2d, nn.Identity, nn.ReLU}
    convs = [n for n, m in plain.named_modules() if isinstance(m, nn.Conv2d)]
    keys = {f'{name}.{part}' for name in convs for part in ('weight', 'bias')}
    assert set(plain.state_dict()) == keys
    assert not list(hosts(plain))
    assert not [m for m in plain.modules() if isinstance(m, Gated)]


def test_its_graph_is_that_of_convolutions_sums_and_activations():
    plain, x = deployed(supernet('sequential pair True')), images()
    graph = torch.export.export(plain, (x,)).graph
    calls = [str(n.target) for n in graph.nodes if n.op == 'call_function']
    block = ['aten.conv2d', 'aten.relu_', 'aten.conv2d']
    shape_kept = [*block, 'aten.add']
    shape_changed = [*block, 'aten.conv2d', 'aten.add']
    stem = ['aten.conv2d', 'aten.relu_']
    wanted = stem + shape_kept + 2 * shape_changed
    assert [call.rpartition('.')[0] for call in calls] == wanted
    traced = torch.jit.trace(plain, x)
    torch.testing.assert_close(traced(x)[0], plain(x)[0], **EXACT)


def test_a_second_switch_does_nothing():
    plain = deployed(supernet())
    before = dict(plain.named_parameters())
    plain.switch_to_deploy()
    after = dict(plain.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[name] is value for name, value in before.items())
    assert plain.deploy


@pytest.mark.parametrize('depth', [8, 18])
@pytest.mark.parametrize('out_act', [True, False])
def test_a_plain_network_is_switched_likewise(depth, out_act):
    settings = dict(depth=depth, base_channels=4, out_act=out_act)
    net = randomise_norms(PlainResNet(**settings)).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    plain = deployed(net)
    torch.testing.assert_close(plain(x)[0], net(x)[0], **EXACT)
    built = PlainResNet(deploy=True, **settings).double().eval()
    built.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(built(x)[0], plain(x)[0])
    assert (norms_dropped(net)(x)[0] - net(x)[0]).abs().max() > 1e-3


def assert_unchanged(net, switch, error, match):
    x = images()
    modules = dict(net.named_modules())
    state = {k: v.clone() for k, v in net.state_dict().items()}
    outputs = net(x)[0]
    with pytest.raises(error, match=match):
        switch()
    after = dict(net.named_modules())
    assert after.keys() == modules.keys()
    assert all(after[name] is module for name, module in modules.items())
    assert net.state_dict().keys() == state.keys()
    assert all(torch.equal(net.state_dict()[k], v) for k, v in state.items())
    assert torch.equal(net(x)[0], outputs)
    assert not net.deploy


@every_case
@pytest.mark.parametrize('scaler', [0.5, 1.0])
def test_only_the_student_can_be_switched(case, scaler):
    net = supernet(case)
    set_scaler(net, scaler)
    assert_unchanged(
        net,
        net.switch_to_deploy,
        RuntimeError,
        rf'got scaler={scaler} of `layer1\.0\.conv1.*` instead of 0\.0\. '
        r'Call .*set_scaler\(model, 0\.0\).* model\.backbone\.scaler=0 in',
    )


def test_one_gate_elsewhere_is_enough_to_refuse():
    net = supernet('postsum kxk norms')
    apply_view(net, View(expand=0.0, lora=False, lambda_relu=0.0))
    with pytest.raises(RuntimeError, match=r'scaler=0\.0 of `layer1\.0\.con'):
        net.switch_to_deploy()
    apply_view(net, View(expand=0.0, lora=True, lambda_relu=0.2))
    with pytest.raises(RuntimeError, match=r'scaler=0\.2 of .*pair\.act`'):
        net.switch_to_deploy()


@pytest.mark.parametrize(
    'norm',
    [nn.GroupNorm(2, 16), nn.BatchNorm2d(16, track_running_stats=False)],
)
def test_a_norm_that_cannot_be_folded_is_refused_before_any_change(norm):
    net = supernet('parallel kxk norms')
    net.layer3[0].bn2 = norm.double()
    kind = type(norm).__name__
    assert_unchanged(
        net,
        net.switch_to_deploy,
        ValueError,
        rf'`layer3\.0\.bn2`, a {kind}, is no batch norm .*backbone\.norm_cfg',
    )


@pytest.mark.parametrize('kind', [ReduceNet, PlainResNet])
def test_deploy_true_refuses_such_norms_too(kind):
    with pytest.raises(ValueError, match='`gn1`, a GroupNorm, .*deploy'):
        kind(8, base_channels=4, norm_cfg=GROUP_NORM, deploy=True)


def test_a_norm_folded_before_is_taken_as_it_is():
    net, x = supernet('postsum no lora'), images()
    student = net(x)[0]
    plain = deployed(fuse_conv_bn(copy.deepcopy(net)))
    torch.testing.assert_close(plain(x)[0], student, **EXACT)
    built = ReduceNet(8, base_channels=4, deploy=True).double()
    built.load_state_dict(plain.state_dict(), strict=True)


def test_a_deployed_network_has_nothing_to_switch_on():
    for net in (deployed(supernet()), ReduceNet(8, deploy=True)):
        with pytest.raises(ValueError, match='no ReduceNet branch to switch'):
            set_scaler(net, 1.0)


def test_float32_and_what_is_frozen_are_kept():
    net = supernet('parallel kxk norms', frozen_stages=1).float().train()
    assert not net.layer1[0].conv2.training
    x, plain = images().float(), deployed(net)
    assert {p.dtype for p in plain.parameters()} == {torch.float}
    trained = {
        name.split('.')[0]
        for name, parameter in plain.named_parameters()
        if parameter.requires_grad
    }
    assert trained == {'layer2', 'layer3'}
    assert not any(m.training for m in plain.layer1.modules())
    assert plain.layer2[0].conv1.training
    wanted = net.eval()(x)[0]
    torch.testing.assert_close(plain(x)[0], wanted, rtol=1e-5, atol=1e-5)


def test_modes_and_freezing_of_a_deployed_network():
    net = ReduceNet(
        8, base_channels=4, frozen_stages=1, norm_eval=True, deploy=True
    )
    assert net.train() is net
    assert net.training and net.layer2[0].conv1.training
    assert not any(m.training for m in net.layer1.modules())
    frozen = [n for n, p in net.named_parameters() if not p.requires_grad]
    assert {name.split('.')[0] for name in frozen} == {'conv1', 'layer1'}
    assert {name.rpartition('.')[2] for name in frozen} == {'weight', 'bias'}
    assert not any(m.training for m in net.eval().modules())


@pytest.mark.parametrize('block', ['postsum', 'parallel'])
def test_with_cp_gives_a_deployed_network_the_same_gradients(block):
    settings = dict(block=block, base_channels=4, deploy=True)
    plain = ReduceNet(8, **settings)
    saving = ReduceNet(8, with_cp=True, **settings)
    saving.load_state_dict(plain.state_dict())
    for net in (plain, saving):
        torch.manual_seed(1)
        x = torch.randn(2, 3, 8, 8, requires_grad=True)
        net(x)[0].square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters()):
        assert a.grad.any()
        torch.testing.assert_close(a.grad, b.grad, msg=name)


@pytest.mark.parametrize('zero_init', [True, False])
def test_init_weights_starts_a_deployed_network_like_a_plain_one(zero_init):
    net = ReduceNet(
        8, base_channels=4, zero_init_residual=zero_init, deploy=True
    )
    nn.init.ones_(net.conv1.bias)
    net.init_weights()
    assert not any(p.any() for n, p in net.named_parameters() if 'bias' in n)
    last = torch.stack([net.layer2[0].conv2.weight.abs().max()])
    assert (last == 0) == zero_init
    x = torch.rand(2, 4, 8, 8)  # the first block keeps the shape
    assert torch.equal(net.layer1[0](x), x) == zero_init
    nn.init.ones_(net.layer1[0].conv2.weight)
    net.init_weights()  # a second call changes nothing
    assert (net.layer1[0].conv2.weight == 1).all()


def test_init_cfg_pretrained_takes_a_deployed_checkpoint(tmp_path):
    net, path = supernet().float(), str(tmp_path / 'a.pth')
    plain, x = deployed(net), images().float()
    init_cfg = dict(type='Pretrained', checkpoint=path)
    settings = dict(base_channels=4, deploy=True, init_cfg=init_cfg)
    torch.save(dict(state_dict=plain.state_dict()), path)
    built = ReduceNet(8, **settings)
    built.init_weights()
    assert torch.equal(built.eval()(x)[0], plain(x)[0])
    torch.save(dict(state_dict=net.state_dict()), path)
    with pytest.raises(ValueError, match='has norms, and those of the model'):
        ReduceNet(8, **settings).init_weights()


@pytest.mark.parametrize('kind', [ReduceNet, PlainResNet])
@pytest.mark.parametrize('strict', [True, False])
def test_checkpoints_of_the_other_form_are_refused(kind, strict):
    net, plain = (kind(8, base_channels=4, deploy=d) for d in (False, True))
    with pytest.raises(ValueError, match='set model.backbone.deploy=True'):
        net.load_state_dict(plain.state_dict(), strict=strict)
    with pytest.raises(ValueError, match='leave out `deploy`, or convert'):
        plain.load_state_dict(net.state_dict(), strict=strict)
    for other in (net, plain):  # what says nothing of its form is no error
        part = {'layer1.0.conv2.weight': torch.zeros(4, 4, 3, 3)}
        other.load_state_dict(part, strict=False)


def test_blocks_are_switched_alone():
    net, x = supernet('parallel 1x1'), torch.randn(2, 4, 8, 8).double()
    block, child = net.layer2[0], net.layer2[0].conv1
    assert isinstance(block, ParallelBlock)
    wanted = block(x)
    block.switch_to_deploy()
    torch.testing.assert_close(block(x), wanted, **EXACT)
    assert block.deploy and type(block.conv1) is nn.Conv2d
    assert block.conv1 is not child
    assert 'downsample.0.bias' in block.state_dict()
    assert not [k for k in block.state_dict() if 'bn' in k or 'lora' in k]
    x = images()
    student = net(x)[0]
    torch.testing.assert_close(deployed(net)(x)[0], student, **EXACT)
    bare = ungraft(net)
    torch.testing.assert_close(bare(x)[0], student, **EXACT)
    assert bare.layer2[0].deploy and not bare.layer1[0].deploy


@every_case
def test_mmpretrains_loop_over_modules_switches_all(case, classifier_cfg):
    settings = dict(expansion=2, scaler=0.0, **CASES[case])
    cfg = classifier_cfg(**settings)
    model = randomise_norms(MODELS.build(cfg)).double().eval()
    x = images()
    student = model(x, mode='tensor')
    for module in model.modules():
        if hasattr(module, 'switch_to_deploy'):
            module.switch_to_deploy()
    torch.testing.assert_close(model(x, mode='tensor'), student, **EXACT)
    parts = [m for m in model.modules() if isinstance(m, Deployable)]
    assert parts[0] is model.backbone and all(part.deploy for part in parts)
    cfg['backbone']['deploy'] = True
    MODELS.build(cfg).load_state_dict(model.state_dict(), strict=True)


def test_every_norm_of_the_student_has_its_convolution():
    net = PlainResNet(20)
    pairs = list(conv_norm_pairs(net))
    norms = [n for n, m in net.named_modules() if isinstance(m, _BatchNorm)]
    assert sorted(norm for _, norm in pairs) == sorted(norms)
    blocks = sum(isinstance(m, BasicBlock) for m in net.modules())
    assert len(pairs) == 1 + 2 * blocks + 2  # stem, blocks, two shortcuts
