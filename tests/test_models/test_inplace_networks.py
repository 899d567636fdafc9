# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""InplaceDistill: two networks in one, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmrazor.models.algorithms import BaseAlgorithm
from mmrazor.registry import MODELS

from reducenet_mm.engine.hooks.supernet_switch_hook import SupernetSwitchHook
from reducenet_mm.models.algorithms.inplace_settings import (
    RECOMPUTING,
    check_inplace_architecture,
)
from reducenet_mm.models.checkpoint_views import (
    is_distill_state_dict,
    split_state_dict,
)
from reducenet_mm.models.supernet import hosts, is_branch_key, student_norms
from tests.test_models.distillation import batch, optimizer, train
from tests.test_models.grafts import classifier_around, grafted_cfg
from tests.test_models.inplace import BLOCKS, at, separate
from tests.test_models.lora_stage import KINDS

# two networks in one


@pytest.mark.parametrize('block', ['postsum', 'parallel'])
def test_a_stage_with_lora_goes_on_from_its_checkpoint(
    inplace, build, save, block
):
    """Both of its networks are there: one file is teacher and student."""
    stage = inplace(dict(block=block))
    train(stage)
    path = save(stage)
    stage.eval()
    inputs, _ = batch()
    after = build(
        load=False,
        backbone=dict(block=block, lora=KINDS['inner']),
        teacher_ckpt=path,
        student_init=path,
        reuse=dict(inherit='all', freeze='all'),
        norm_stats='inherited',
    )
    after.eval()
    assert torch.equal(after.teacher(inputs), stage.teacher(inputs))
    start = stage(inputs)
    assert torch.equal(after(inputs), start)
    train(after)
    after.eval()
    assert torch.equal(after.teacher(inputs), stage.teacher(inputs))
    assert not torch.allclose(after(inputs), start)


def test_it_is_a_mmrazor_algorithm_at_rest_a_student(inplace):
    algorithm = inplace().train()
    assert isinstance(algorithm, BaseAlgorithm)
    algorithm.loss(*batch())
    assert {h.scaler for _, h in hosts(algorithm.architecture)} == {0.0}
    with pytest.raises(RuntimeError):
        algorithm.loss(torch.randn(1, 7, 8, 8))
    assert {h.scaler for _, h in hosts(algorithm.architecture)} == {0.0}


@pytest.mark.parametrize('block', BLOCKS)
def test_everything_trains_and_both_come_back_from_the_file(inplace, block):
    algorithm = inplace(dict(block=block))
    before = copy.deepcopy(algorithm.state_dict())
    train(algorithm)
    state = algorithm.state_dict()
    same = [k for k, v in state.items() if torch.equal(v, before[k])]
    assert not same
    assert is_distill_state_dict(state)
    teacher, student = split_state_dict(state)
    networks = separate(algorithm)
    inputs, samples = batch()
    algorithm.eval()
    for state, network, view in zip(
        (teacher, student), networks, ('teacher', 'student'), strict=True
    ):
        fresh = copy.deepcopy(network)
        missing = fresh.load_state_dict(state, strict=False).missing_keys
        assert all(map(is_branch_key, missing))
        expected = fresh.eval()(inputs)
        algorithm.predict_view = view
        assert torch.equal(algorithm(inputs), expected)
        answers = algorithm(inputs, samples, mode='predict')
        scores = torch.stack([answer.pred_score for answer in answers])
        assert torch.equal(scores, expected.softmax(1))
    assert not torch.equal(algorithm.teacher(inputs), networks[1](inputs))


def test_the_overlay_is_the_statistics_of_the_students_norms(inplace):
    architecture = inplace(dict(frozen_stages=1)).architecture
    frozen = ('backbone.bn1', 'backbone.layer1')
    expected = {
        f'{name}.{key}'
        for name, norm in student_norms(architecture)
        if not name.startswith(frozen)
        for key, _ in norm.named_buffers()
    }
    overlay = inplace(dict(frozen_stages=1)).teacher_overlay.tensors()
    assert set(overlay) == expected
    assert 0 < len(expected) < len(inplace().teacher_overlay.tensors())


def test_frozen_stages_stay_as_they_are(inplace):
    algorithm = inplace(dict(frozen_stages=1), sandwich=1)
    frozen = ('conv1', 'bn1', 'layer1')
    before = copy.deepcopy(algorithm.state_dict())
    train(at(algorithm, 0))
    same = {
        k.removeprefix('architecture.')
        for k, v in algorithm.state_dict().items()
        if torch.equal(v, before[k])
    }
    assert same == {
        key
        for key in algorithm.architecture.state_dict()
        if key.startswith(tuple(f'backbone.{n}' for n in frozen))
    }


def test_an_average_holds_both_networks_too(inplace):
    algorithm = inplace()
    ema = ExponentialMovingAverage(algorithm, momentum=0.3)
    optim = optimizer(algorithm)
    for _ in range(3):
        train(algorithm, steps=1, optim=optim)
        ema.update_parameters(algorithm)
    inputs, _ = batch()
    teacher, student = separate(ema.module)
    ema.module.eval()
    assert torch.equal(ema.module.teacher(inputs), teacher.eval()(inputs))
    assert torch.equal(ema.module(inputs), student.eval()(inputs))
    assert not torch.equal(ema.module(inputs), algorithm.eval()(inputs))


def test_it_starts_from_a_trained_supernet(inplace, classifier, tmp_path):
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=classifier.state_dict()), path)
    algorithm = inplace()
    algorithm.architecture.init_cfg = dict(
        type='Pretrained', checkpoint=str(path)
    )
    algorithm.init_weights()
    inputs, _ = batch()
    assert torch.equal(algorithm.teacher(inputs), classifier.eval()(inputs))
    train(algorithm, steps=1)
    own = {k: v.clone() for k, v in algorithm.state_dict().items()}
    algorithm.init_weights()  # as a Runner does once more
    torch.testing.assert_close(algorithm.state_dict(), own, rtol=0, atol=0)


# what is refused


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(ramp=1.5), r'model\.ramp must be from 0 to 1.*got 1\.5'),
        (dict(ramp=True), r'model\.ramp .*True'),
        (dict(sandwich=-1), r'model\.sandwich must be an integer >= 0'),
        (dict(sandwich=0.5), r'model\.sandwich .*got 0\.5'),
        (dict(teacher_weight=0), r'model\.teacher_weight .*PlainResNet'),
        (dict(distiller=None, ramp=0.1), 'nothing to ramp up'),
        (dict(predict_view='both'), r"model\.predict_view .*got 'both'"),
        (
            dict(
                sandwich=1, distiller=dict(distill_deliveries=dict(a=dict()))
            ),
            'a delivery reaches one network only',
        ),
        (dict(backbone=dict(with_cp=True)), r'Set with_cp=False'),
        (dict(backbone=dict(norm_eval=True)), 'could not keep their own'),
        (
            dict(backbone=dict(norm_cfg=dict(type='GN', num_groups=2))),
            'Use batch norms',
        ),
        (dict(backbone=dict(lora=dict(kind='1x1'))), r'backbone\.lora'),
        (
            dict(backbone=dict(block='sequential', student_conv='merged')),
            "Use student_conv='pair'",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(inplace, settings, message):
    with pytest.raises(ValueError, match=message):
        inplace(**settings)


def test_blocks_that_are_computed_again_are_refused(classifier):
    """By whatever name a stock backbone calls it."""
    for key in RECOMPUTING:
        network = copy.deepcopy(classifier)
        setattr(network.backbone.layer2[0], key, True)
        with pytest.raises(
            ValueError, match=rf'a BasicBlock .*Set {key}=False'
        ):
            check_inplace_architecture(network)
    arch = dict(growth_rate=8, depths=[2, 2], init_channels=16)
    dense = grafted_cfg(
        'DenseNet',
        backbone=dict(arch=arch, memory_efficient=True),
        targets=r'stages\.\d\.block\.\d\.conv1',
    )
    with pytest.raises(ValueError, match=r'Set memory_efficient=False'):
        check_inplace_architecture(classifier_around(dense, 32))


def test_a_network_without_branches_is_refused(classifier_cfg):
    cfg = classifier_cfg(type='PlainResNet')
    del cfg['backbone']['expansion']
    settings = dict(_scope_='mmrazor', type='InplaceDistill', architecture=cfg)
    with pytest.raises(ValueError, match='has no ReduceNet branch'):
        MODELS.build(settings)


def test_checkpoints_of_two_stages_and_in_place_are_not_mixed(inplace, build):
    own, two_stage = inplace().state_dict(), build().state_dict()
    with pytest.raises(ValueError, match='other keys or shapes'):
        inplace().load_state_dict(two_stage, strict=False)
    with pytest.raises(ValueError, match='other keys or shapes'):
        build().load_state_dict(own, strict=False)
    with pytest.raises(ValueError, match="SupernetSwitchHook'.*InplaceHook"):
        SupernetSwitchHook().check_fit(inplace())
    SupernetSwitchHook().check_fit(build())
