# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What a grafted backbone refuses or warns of, and a stock one does not."""

from __future__ import annotations

import copy
import pickle

import mmpretrain
import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from torch import nn

from reducenet_mm import graft, ungraft
from reducenet_mm.models.supernet import hosts
from tests.test_models.grafts import (
    classifier_around,
    grafted_cfg,
    stock_backbone,
)


def small(norm_cfg=None, **backbone):
    return grafted_cfg('ResNet', backbone=backbone, norm_cfg=norm_cfg)


@pytest.mark.parametrize('kind', ['distillation', 'backbone', 'Pretrained'])
def test_a_checkpoint_with_nothing_for_the_backbone_is_refused(kind, tmp_path):
    """MMEngine's loading is not strict: it would load nothing, and go on."""
    path = str(tmp_path / 'other.pth')
    init_cfg = dict(type='Pretrained', checkpoint=path)
    model = classifier_around(small(init_cfg=init_cfg), 64)
    state_dict = {
        'distillation': {
            f'architecture.{key}': value
            for key, value in model.state_dict().items()
        },
        'backbone': model.backbone.state_dict(),
        'Pretrained': model.state_dict(),
    }[kind]
    torch.save(dict(state_dict=state_dict), path)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match='has nothing for the network'):
        if kind == 'Pretrained':
            model.init_weights()
        else:
            load_checkpoint(model, path)
    after = model.state_dict()
    backbone = [key for key in after if key.startswith('backbone.')]
    assert all(torch.equal(after[key], before[key]) for key in backbone)


@pytest.mark.parametrize('by_hand', [False, True])
def test_what_is_left_after_ungrafting_is_stock(by_hand):
    model = classifier_around(small(), 64)
    if by_hand:
        model = graft(ungraft(model), r'backbone\.layer1\..*conv1')
    copied = copy.deepcopy(model)
    with pytest.raises(ValueError, match='has nothing for the network'):
        copied.load_state_dict({}, strict=False)
    stock = pickle.dumps(ungraft(copied))
    assert b'reducenet_mm' not in stock
    pickle.loads(stock).load_state_dict({}, strict=False)
    with pytest.raises(ValueError, match='has nothing for the network'):
        model.load_state_dict({}, strict=False)


def test_branches_with_idle_norms_are_told_of(logged):
    def told():
        return [line for line in logged if 'branches' in line]

    MODELS.build(small(norm_eval=False))
    groups = dict(type='GN', num_groups=2)
    MODELS.build(dict(small(norm_eval=True), norm_cfg=groups))
    assert not told()
    MODELS.build(small(norm_eval=True))
    (message,) = told()
    assert 'norm_eval=True of ResNet keeps' in message
    assert 'norm_eval=False' in message


def test_pretrained_of_a_host_that_takes_none_says_what_to_do():
    with pytest.raises(ValueError, match=r'takes none.*backbone\.init_cfg'):
        MODELS.build(dict(small(), pretrained='stock.pth'))


@pytest.mark.parametrize(
    'lora', [dict(kind='1x1'), dict(kind='kxk_1x1', inner_norm=True)]
)
def test_a_lora_that_could_not_merge_is_refused_before_it_trains(lora):
    """No norm of a known name follows these convolutions."""
    architecture = classifier_around(grafted_cfg('MobileNetV2', lora=lora), 8)
    settings = dict(
        _scope_='mmrazor',
        type='SupernetDistill',
        architecture=architecture,
        reuse=dict(inherit='all', freeze='all'),
        norm_stats='inherited',
    )
    with pytest.raises(ValueError, match=r'conv\.bias` comes from a norm in'):
        MODELS.build(settings)
    lora = dict(kind='weight', expansion=0.5)
    architecture = classifier_around(grafted_cfg('MobileNetV2', lora=lora), 8)
    assert MODELS.build(dict(settings, architecture=architecture))


@pytest.mark.parametrize('algorithm', ['SupernetDistill', 'InplaceDistill'])
def test_a_neck_with_the_name_of_a_branch_is_refused(algorithm):
    """It would be taken for the teacher's alone: never trained or loaded."""
    model = classifier_around(small(), 64)
    cfg = dict(_scope_='mmrazor', type=algorithm, architecture=model)
    assert MODELS.build(cfg).architecture is model
    for name, own in (
        ('expand', nn.Conv2d(64, 64, 1)),
        ('expand', nn.Parameter(torch.ones(64))),
        ('lora', nn.Parameter(torch.ones(64))),
    ):
        model.neck = nn.Module()
        setattr(model.neck, name, own)
        message = f'`neck.{name}` has the name of one'
        with pytest.raises(ValueError, match=message):
            MODELS.build(cfg)


@pytest.mark.parametrize(
    ('kind', 'first'),
    [('MobileNetV2', r'layer2\.0\.conv\.1\.conv'), ('ResNet', 'conv1')],
)
def test_what_is_grafted_already_is_no_block_of_its_own(kind, first):
    """Groups of convolutions may have branches of their own widths."""
    other = graft(stock_backbone(kind), 'block_first_conv')
    firsts = {name for name, _ in hosts(other)}
    net = graft(stock_backbone(kind), first)
    before = {name for name, _ in hosts(net)}
    assert before and not before & firsts
    graft(net, 'block_first_conv', expansion=2)
    assert {name for name, _ in hosts(net)} == before | firsts


def test_mmcvs_own_name_for_a_convolution_is_one():
    cfg = dict(
        type='ResNet',
        depth=18,
        base_channels=8,
        stem_channels=8,
        conv_cfg=dict(type='Conv'),
    )
    net = mmpretrain.registry.MODELS.build(cfg)
    net.eval()
    x = torch.randn(2, 3, 32, 32)
    wanted = net(x)[0]
    graft(net, 'block_first_conv', zero_init=True)
    assert len([*hosts(net)]) == 8
    torch.testing.assert_close(net(x)[0], wanted)
    torch.testing.assert_close(ungraft(net)(x)[0], wanted)
