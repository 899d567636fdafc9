# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Published keys: what is read from the tensors, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch

from reducenet_mm.compat.published_keys import read_published
from reducenet_mm.models import PlainResNet
from tests.published import Published, drop, rename


def state_of(**settings) -> dict:
    return dict(
        Published(**dict(dict(blocks=1, width=4), **settings)).state_dict()
    )


@pytest.mark.parametrize(
    'settings, lora',
    [
        (dict(block='postsum', blocks=2, width=8, lora='1x1'), '1x1'),
        (dict(block='postsum', expansion=3, lora='kxk_1x1'), 'kxk_1x1'),
        (dict(block='parallel', blocks=3, expansion=2, classes=7), None),
        (dict(block='sequential', expansion=2, classes=100), None),
    ],
)
def test_sizes_are_read_from_the_tensors(settings, lora):
    network = read_published(state_of(**settings))
    assert network.block == settings['block']
    assert network.depth == 6 * settings.get('blocks', 1) + 2
    assert network.base_channels == settings.get('width', 4)
    assert network.expansion == settings.get('expansion', 1)
    assert network.num_classes == settings.get('classes', 10)
    assert network.scaler == 1
    assert (network.lora, network.unused_lora) == (None, lora)


def test_a_lora_that_is_on_is_kept_with_its_settings():
    for kind, settings in (
        ('1x1', dict(kind='1x1')),
        (
            'kxk_1x1',
            dict(
                kind='kxk_1x1', expansion=2, inner_norm=True, outer_norm=True
            ),
        ),
    ):
        source = Published(blocks=1, width=4, expansion=2, lora=kind)
        network = read_published(source.set_gates(0.0, 1.0).state_dict())
        assert network.scaler == 0
        assert network.lora == settings
        assert network.unused_lora is None


def test_the_tensors_are_the_files_own_and_the_file_is_left_as_it_is():
    state = state_of(block='parallel')
    keys = list(state)
    network = read_published(state)
    assert list(state) == keys
    ours = network.state_dict['backbone.layer2.0.conv1.expand.conv2.weight']
    assert ours is state['layer2.0.branch1.3.weight']


def test_the_wrapped_classifier_is_turned_round():
    state = state_of(block='sequential', classes=5)
    weight = read_published(state).state_dict['head.fc.weight']
    assert weight.shape == (5, 16)
    assert weight.is_contiguous()
    assert torch.equal(weight, state['linear.w'].t())


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.'])
@pytest.mark.parametrize('wrap', [False, True])
def test_what_saving_wraps_around_the_weights_is_taken_off(prefix, wrap):
    state = state_of()
    content = {prefix + key: value for key, value in state.items()}
    if wrap:
        content = dict(net=content, acc=91.97, epoch=200)
    expected = read_published(state).state_dict
    assert read_published(content).state_dict.keys() == expected.keys()


def seventh_of_june(state: dict) -> None:
    drop(state, '.branch1.4.')
    drop(state, 'lora')


def fifth_of_june(state: dict) -> None:
    seventh_of_june(state)
    rename(state, 'fuse.0', 'bn2')
    rename(state, 'fuse.2', 'conv3')
    rename(state, 'fuse.3', 'bn3')


def ninth_of_june(state: dict) -> None:
    seventh_of_june(state)
    rename(state, 'fuse.0', 'branch2.1')
    rename(state, 'fuse.2', 'fuse.0')
    rename(state, 'fuse.3', 'fuse.1')


def lora_without_gate(state: dict) -> None:
    for key in [key for key in state if key.split('.')[-1] == 'lora']:
        del state[key]


def lora_without_norms(state: dict) -> None:
    """As in the version of 2023-06-14 that could not run."""
    drop(state, '.lora_branch.1.')
    rename(state, 'lora_branch.2', 'lora_branch.1')
    drop(state, '.lora_branch.3.')
    lora_without_gate(state)


def both_gates(state: dict) -> None:
    for key in [key for key in state if key.split('.')[-1] == 'lora']:
        state[key] = torch.tensor(1.0)


def all_gates(value: float) -> Callable[[dict], None]:
    def change(state: dict) -> None:
        for key in [key for key in state if key.endswith('scaler')]:
            state[key] = torch.tensor(value)

    return change


def replace(key: str, value: object) -> Callable[[dict], None]:
    return lambda state: state.update({key: value})


def without(part: str) -> Callable[[dict], None]:
    return lambda state: drop(state, part)


def half_of_another_width(state: dict) -> None:
    other = state_of(width=8, blocks=2, lora='kxk_1x1')
    state.update({k: v for k, v in other.items() if k.startswith('layer3')})


def one_prefix_missing(state: dict) -> None:
    for key in list(state)[1:]:
        state[f'module.{key}'] = state.pop(key)


def two_generations(state: dict) -> None:
    other = state_of(block='parallel', blocks=2)
    drop(state, 'layer2.1.')
    state.update({k: v for k, v in other.items() if k.startswith('layer2.1')})


@pytest.mark.parametrize(
    'change, reason',
    [
        (seventh_of_june, 'cannot be told from the file'),
        (fifth_of_june, 'of 2023-06-04 and 05.*No block of ReduceNet'),
        (ninth_of_june, 'of 2023-06-07 to 13.*No block of ReduceNet'),
        (lora_without_norms, '2 layers and no gate'),
        (lora_without_gate, '4 layers and no gate'),
        (without('.lora_branch.'), '0 layers and a gate'),
        (both_gates, 'scaler and lora are both 1'),
        (all_gates(0.5), 'gate `scaler` is 0.5'),
        (all_gates(float('nan')), 'disagree|gate `scaler` is nan'),
        (
            replace('layer2.1.scaler', torch.tensor(0.0)),
            r'disagree on the gate `scaler`: \[0.0, 1.0\]',
        ),
        (without('layer3.1.'), r'have \[2, 2, 1\] blocks'),
        (without('layer2.'), r'have \[2, 0, 2\] blocks'),
        (without('layer2.0.shortcut.1.bias'), 'shortcut.1.bias is missing'),
        (without('layer1.0.scaler'), 'layer1.0.scaler is missing'),
        (without('conv1.0'), 'conv1.0.weight is missing'),
        (without('linear.bias'), 'linear.bias is missing'),
        (
            replace('layer4.0.fuse.2.weight', torch.ones(1)),
            'layer4.0.fuse.2.weight and 0 more keys have no place',
        ),
        (
            replace('layer1.0.fuse.5.weight', torch.ones(4)),
            r"\(layer1.0.\*\) has the layers \['branch1.0'.*'fuse.5'",
        ),
        (replace('conv1.0.weight', torch.ones(3, 3, 3, 3)), 'has 8 outputs'),
        (
            replace('conv1.0.weight', torch.ones(4, 1, 3, 3)),
            r'shape \(4, 1, 3, 3\); .* have \(4, 3, 3, 3\)',
        ),
        (
            replace('linear.weight', torch.ones(10, 99)),
            r'shape \(10, 99\); .* have \(10, 16\)',
        ),
        (replace('linear.bias', torch.ones(())), 'a single number'),
        (half_of_another_width, 'layer3.0.branch1.0.weight has the shape'),
        (two_generations, r'layer2\.1\.\S+ is missing'),
        (one_prefix_missing, 'no published version has'),
        (replace('epoch', 3), "entry 'epoch' is no tensor"),
    ],
)
def test_what_is_not_exactly_one_published_network_is_refused(change, reason):
    state = state_of(blocks=2, expansion=2, lora='kxk_1x1')
    read_published(state)  # it is the change that is refused
    change(state)
    with pytest.raises(ValueError) as caught:
        read_published(state)
    assert re.search(reason, str(caught.value)), caught.value


@pytest.mark.parametrize(
    'content, reason',
    [
        (PlainResNet(depth=8).state_dict(), 'ordinary ResNet'),
        (
            {f'backbone.{k}': v for k, v in state_of().items()},
            "first key is 'backbone.",
        ),
        (dict(state_dict=state_of(), meta={}), 'checkpoint of MMEngine'),
        ({}, 'no state dict'),
        ([1, 2], 'no state dict'),
        (dict(net={}), 'no state dict'),
    ],
    ids=['resnet', 'ours', 'mmengine', 'empty', 'list', 'empty-net'],
)
def test_other_content_is_refused(content, reason):
    with pytest.raises(ValueError, match=reason):
        read_published(content)


@pytest.mark.parametrize('block', ['parallel', 'sequential'])
def test_a_lora_where_there_never_was_one_is_refused(block):
    state = state_of(block=block)
    state['layer1.0.lora_branch.0.weight'] = torch.ones(4, 4, 1, 1)
    with pytest.raises(ValueError, match='1 layers and no gate'):
        read_published(state)
