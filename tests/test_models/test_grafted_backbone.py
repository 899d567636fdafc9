# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""GraftedBackbone: any backbone with branches, out of a config."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope
from mmpretrain.models import MobileNetV2, ResNet, ShuffleNetV1
from mmpretrain.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from reducenet_mm import graft, set_scaler
from reducenet_mm.engine.network_choice import choose_network
from reducenet_mm.engine.optimizers import TrainableOptimWrapperConstructor
from reducenet_mm.engine.preflight.model_keys import (
    check_model_keys,
    walk_model,
)
from reducenet_mm.models import GraftedBackbone
from reducenet_mm.models.supernet import hosts, reset_branches
from tests.test_models.grafts import classifier_around, grafted_cfg


def small(**backbone):
    """A config of a ResNet-18 of width 8 with branches; and more settings."""
    settings = {
        key: backbone.pop(key)
        for key in ('scaler', 'lora', 'zero_init', 'kernel', 'expansion')
        if key in backbone
    }
    return grafted_cfg('ResNet', backbone=backbone, **settings)


def branches(net):
    return [layer for _, layer in hosts(net)]


# what it returns


def test_it_is_the_backbone_itself():
    cfg = small(out_indices=(0, 3), expansion=3, scaler=0.5, kernel=5)
    before = copy.deepcopy(cfg)
    net = MODELS.build(cfg)
    assert cfg == before
    assert type(net) is ResNet
    assert not [key for key in net.state_dict() if 'backbone' in key]
    assert [tuple(f.shape) for f in net(torch.rand(2, 3, 32, 32))] == [
        (2, 8, 8, 8),
        (2, 64, 1, 1),
    ]
    assert len(branches(net)) == 8
    for layer in branches(net):
        assert layer.scaler == 0.5
        conv1 = layer.expand.conv1
        assert conv1.out_channels == 3 * layer.out_channels
        assert (conv1.kernel_size, conv1.padding) == ((5, 5), (2, 2))


def test_modes_and_norm_eval_are_the_hosts():
    net = MODELS.build(small(norm_eval=True))
    net.train()
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    assert net.layer1.training
    assert not any(norm.training for norm in norms)
    assert len(norms) == 20 + 2 * 8
    net = MODELS.build(small())
    net.train()
    assert all(m.training for m in net.modules())
    net.eval()
    assert not any(m.training for m in net.modules())


def test_branches_of_a_frozen_stage_are_frozen():
    lora = dict(kind='weight')
    net = MODELS.build(small(frozen_stages=1, lora=lora))
    for step in ('built', 'train'):
        if step == 'train':
            net.train()
        trains = [
            any(p.requires_grad for p in (*e.expand.parameters(), e.lora.up))
            for e in branches(net)
        ]
        modes = [layer.expand.norm2.training for layer in branches(net)]
        assert trains == [False] * 2 + [True] * 6, step
        assert modes == [False] * 2 + [True] * 6, step


def test_a_graft_in_python_trains_beside_a_frozen_network():
    net = MODELS.build(small()['backbone'])
    net.requires_grad_(False)
    graft(net, 'block_first_conv')
    trained = {n for n, p in net.named_parameters() if p.requires_grad}
    assert trained == {n for n in net.state_dict() if '.expand.' in n} - {
        n for n, _ in net.named_buffers()
    }


# initialisation


def test_the_hosts_init_cfg_reaches_main_convolutions_and_branches():
    init_cfg = [
        dict(type='Constant', val=0.5, layer=['Conv2d']),
        dict(type='Constant', val=2.0, bias=0.1, layer=['_BatchNorm']),
    ]
    lora = dict(kind='kxk_1x1', outer_norm=True)
    model = classifier_around(
        small(init_cfg=init_cfg, lora=lora, zero_init_residual=False), 64
    )
    model.init_weights()
    for layer in branches(model):
        expand, lora_branch = layer.expand, layer.lora
        for conv in (layer, expand.conv1, lora_branch.pair.conv2):
            assert bool((conv.weight == 0.5).all())
        assert bool((expand.norm1.weight == 2).all())
        assert bool((expand.norm1.bias == 0.1).all())
        for norm in (expand.norm2, lora_branch.norm):
            assert not norm.weight.any()
            assert not norm.bias.any()
    assert bool((model.backbone.bn1.weight == 2).all())


def test_without_zero_init_the_initialisers_have_the_last_word():
    init_cfg = dict(type='Constant', val=2.0, layer=['_BatchNorm'])
    model = classifier_around(small(init_cfg=init_cfg, zero_init=False), 64)
    model.init_weights()
    for layer in branches(model):
        assert bool((layer.expand.norm2.weight == 2).all())


@pytest.mark.parametrize(
    'lora', [dict(kind='1x1'), dict(kind='kxk_1x1'), dict(kind='weight')]
)
def test_lora_still_adds_nothing_after_init_weights(lora):
    model = classifier_around(small(lora=lora), 64)
    model.init_weights()
    model.eval()
    images = torch.randn(2, 3, 32, 32)
    teacher = model(images)
    set_scaler(model, 0.0)  # lora is on
    assert all(layer.lora.scaler == 1 for layer in branches(model))
    torch.testing.assert_close(model(images), teacher, rtol=0, atol=0)


def test_a_checkpoint_with_branches_fills_them(tmp_path):
    trained = MODELS.build(small())
    for layer in branches(trained):
        nn.init.constant_(layer.expand.norm2.weight, 0.3)
    path = str(tmp_path / 'grown.pth')
    torch.save(dict(state_dict=trained.state_dict()), path)
    init_cfg = dict(type='Pretrained', checkpoint=path)
    model = classifier_around(small(init_cfg=init_cfg), 64)
    model.init_weights()
    for layer in branches(model):
        assert bool((layer.expand.norm2.weight == 0.3).all())


def test_a_second_initialisation_leaves_a_trained_branch():
    model = classifier_around(small(), 64)
    model.init_weights()
    for layer in branches(model):
        nn.init.constant_(layer.expand.norm2.weight, 0.3)
    model.init_weights()
    for layer in branches(model):
        assert bool((layer.expand.norm2.weight == 0.3).all())
        assert not hasattr(layer.expand, '_params_init_info')


def test_a_host_that_writes_into_norms_itself():
    """ShuffleNetV1 does after its initialisers; alone, even after the end."""
    backbone = dict(type=ShuffleNetV1)
    cfg = dict(type=GraftedBackbone, backbone=backbone, targets='depthwise')
    model = classifier_around(cfg, 960)
    model.init_weights()
    assert len(branches(model)) == 16
    assert not any(e.expand.norm2.weight.any() for e in branches(model))
    norm1 = branches(model)[0].expand.norm1
    assert norm1.bias[0].item() == pytest.approx(1e-4)
    alone = ROOT.build(cfg)
    alone.init_weights()
    assert all(e.expand.norm2.bias.all() for e in branches(alone))
    reset_branches(alone)
    assert not any(e.expand.norm2.bias.any() for e in branches(alone))


def test_a_network_grafted_by_hand_keeps_its_start_too():
    model = classifier_around(dict(type='MobileNetV2'), 1280)
    graft(model, 'depthwise')
    model.init_weights()
    assert type(model.backbone) is MobileNetV2
    assert len(branches(model)) == 17
    assert not any(e.expand.norm2.weight.any() for e in branches(model))


# configs


@pytest.mark.parametrize('scope', ['inner', 'outer', 'default', 'name'])
def test_the_host_is_found_in_its_scope(scope):
    backbone = dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)
    cfg = dict(
        type='GraftedBackbone', backbone=backbone, targets='block_first_conv'
    )
    if scope == 'inner':
        backbone['_scope_'] = 'mmpretrain'
    elif scope == 'outer':
        cfg['_scope_'] = 'mmpretrain'
    elif scope == 'default':
        DefaultScope.get_instance('test', scope_name='mmpretrain')
    else:
        backbone['type'] = 'mmpretrain.ResNet'
    assert type(ROOT.build(cfg)) is ResNet


LAZY = """
from mmengine.config import read_base
from mmpretrain.models import ImageClassifier, ResNet
from reducenet_mm.models import GraftedBackbone

model = dict(
    type=GraftedBackbone,
    backbone=dict(
        type=ResNet, depth=18, base_channels=8, stem_channels=8,
        out_indices=(1, 3)),
    targets='block_first_conv',
    expansion=2)
"""


def test_a_lazy_config_builds_it(tmp_path):
    path = tmp_path / 'lazy.py'
    path.write_text(LAZY)
    cfg = Config.fromfile(path)
    net = ROOT.build(cfg.model)
    assert type(net) is ResNet
    assert len(branches(net)) == 8
    dumped = tmp_path / 'dumped.py'
    cfg.dump(dumped)
    again = ROOT.build(Config.fromfile(dumped).model)
    assert list(again.state_dict()) == list(net.state_dict())


def test_the_scaler_of_a_config_chooses_the_network():
    cfg = dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=small(),
        head=dict(type='ClsHead'),
    )
    for scaler in (0.0, 0.25, 1.0):
        model = MODELS.build(choose_network(cfg, scaler))
        assert {layer.scaler for layer in branches(model)} == {scaler}


def test_unknown_keys_are_told_before_building():
    config = Config(dict(default_scope='mmpretrain', model=small()))
    check_model_keys(walk_model(config))
    config.model.expansoin = 2
    with pytest.raises(ValueError, match="Did you mean 'expansion'"):
        check_model_keys(walk_model(config))
    config = Config(dict(model=small(dept=18)))
    with pytest.raises(ValueError, match=r'model\.backbone\.dept'):
        check_model_keys(walk_model(config))


def test_the_optimizer_holds_what_trains():
    model = classifier_around(small(frozen_stages=1), 64)
    optim = TrainableOptimWrapperConstructor(
        dict(optimizer=dict(type='SGD', lr=0.1))
    )(model)
    held = {id(p) for g in optim.param_groups for p in g['params']}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(backbone=dict(depth=18)), 'a dict with `type`'),
        (dict(backbone=nn.Conv2d(3, 4, 1)), 'a dict with `type`'),
        (dict(backbone=dict(type='ResNet', depth=18)), 'is not known in'),
        (dict(backbone=dict(small(), type='NoNet')), "'NoNet' is not known"),
        (dict(scaler=2), 'scaler must be'),
        (dict(expansion=0), 'layer1.0.conv1`: expansion must be'),
        (dict(kernel=2), 'layer1.0.conv1`: kernel must be'),
        (dict(targets='nothing'), "targets \\['nothing'\\] match no"),
        (dict(backbone=small()), 'has branches already'),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build({**small(), **change})
