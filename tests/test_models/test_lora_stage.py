# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The lora stage in real Runners: only its branches train, and they merge."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from reducenet_mm import set_scaler, ungraft
from reducenet_mm.export import export_student
from reducenet_mm.models import STUDENT, TEACHER, View, apply_view
from reducenet_mm.models.supernet import (
    is_branch_key,
    is_lora_key,
    student_norms,
    using_view,
)
from tests.test_models.blocks import EXACT
from tests.test_models.lora_stage import (
    KINDS,
    LEAF,
    PAIR,
    WITH_NORM,
    Stage,
    differ,
    losses_by_hand,
    names_of_what_moved,
    read,
)
from tests.test_models.presets import preset


@pytest.fixture
def stage(tmp_path):
    return lambda block='postsum': Stage(tmp_path, block)


@pytest.fixture
def images():
    return torch.rand(4, 1, 8, 8)


@pytest.mark.parametrize(
    ('block', 'kind'),
    [
        *(('postsum', kind) for kind in KINDS),
        *(('parallel', kind) for kind in ('both', 'act', 'weight')),
    ],
)
def test_only_lora_trains_and_merges(stage, images, block, kind, tmp_path):
    stage = stage(block)
    runner, first = stage.train(KINDS[kind])
    model = runner.model.eval()

    by_hand = losses_by_hand(stage, first.batch, model)
    assert set(first.losses) == {*by_hand, 'loss'}
    for name, value in by_hand.items():
        torch.testing.assert_close(first.losses[name], value)
    assert by_hand['distill.loss_kl'] > 1e-3

    params = dict(model.architecture.named_parameters())
    lora = {name for name in params if is_lora_key(name)}
    held = [p for g in runner.optim_wrapper.param_groups for p in g['params']]
    assert {id(p) for p in held} == {id(params[name]) for name in lora}
    state = model.architecture.state_dict()
    assert names_of_what_moved(stage, model) == set(filter(is_lora_key, state))
    assert all(state[name].any() for name in lora)
    assert torch.equal(model.teacher(images), stage.teacher(images))
    started = stage.student(images)
    assert not torch.allclose(model(images), started, atol=1e-4)

    supernet = copy.deepcopy(model.architecture).double()
    set_scaler(supernet, 0.0)
    x = images.double()
    merged = ungraft(copy.deepcopy(supernet))
    torch.testing.assert_close(merged(x), supernet(x), **EXACT)
    with using_view(supernet, View(expand=0, lora=False, lambda_relu=0)):
        assert (merged(x) - supernet(x)).abs().max() > 1e-4

    result = export_student(
        stage.config(KINDS[kind]),
        f'{runner.work_dir}/epoch_2.pth',
        tmp_path / 'out',
    )
    assert result.largest_difference <= 1e-10
    plain = torch.load(result.weights, weights_only=True)['state_dict']
    student = stage.student.state_dict()
    assert plain.keys() == {k for k in student if not is_branch_key(k)}
    expected = {f'backbone.layer{i}.0.conv1.weight' for i in (1, 2, 3)}
    if kind in WITH_NORM:  # the convolution has no bias to take the shift
        expected |= {
            f'backbone.layer{i}.0.bn1.running_mean' for i in (1, 2, 3)
        }
    changed = {k for k in plain if not torch.equal(plain[k], student[k])}
    assert changed == expected


@pytest.mark.parametrize('kind', ['both', 'point'])
def test_statistics_of_its_own_norms_follow_the_batches(stage, kind):
    stage = stage()
    runner, _ = stage.train(KINDS[kind])
    architecture = runner.model.train().architecture
    for name, norm in student_norms(architecture):
        assert norm.training == is_lora_key(name), name
        if is_lora_key(name):
            assert norm.num_batches_tracked == 4, name
            assert norm.running_mean.abs().max() > 0, name


def test_with_an_activation_it_merges_at_gate_0_alone(stage, images, tmp_path):
    stage = stage()
    runner, _ = stage.train(KINDS['act'])
    supernet = runner.model.architecture.double().eval()
    x = images.double()
    merged = ungraft(copy.deepcopy(supernet))
    for gate in (0.0, 0.5, 1.0):
        apply_view(supernet, View(expand=0, lora=True, lambda_relu=gate))
        difference = (merged(x) - supernet(x)).abs().max()
        assert (difference < 1e-10) == (gate == 0), gate
    apply_view(supernet, TEACHER)
    stage.save(supernet.float().state_dict(), 'gate.pth')  # gates are no keys
    config = Config(dict(model=stage.config(KINDS['act']).model.architecture))
    result = export_student(config, stage.folder / 'gate.pth', tmp_path / 'o')
    assert result.largest_difference <= 1e-10


def test_an_activation_without_a_schedule_is_refused(stage):
    stage = stage()
    with pytest.raises(RuntimeError, match=r"gates=\['lambda_relu'\]"):
        stage.train(KINDS['act'], custom_hooks=[])
    branches = dict(type='ScalerScheduleHook', gates=['expand'])
    with pytest.raises(RuntimeError, match=r"gates=\['lambda_relu'\]"):
        stage.train(
            KINDS['act'],
            custom_hooks=[branches],
            **{'model.student_init': None, 'model.norm_stats': 'live'},
        )


def test_an_average_differs_in_lora_alone(stage, images):
    stage = stage()
    runner, _ = stage.train(
        KINDS['both'],
        custom_hooks=[dict(type='EMAHook', momentum=0.3)],
    )
    saved = torch.load(f'{runner.work_dir}/epoch_2.pth', weights_only=False)
    average = saved['state_dict']
    last = {
        key.removeprefix('module.'): value
        for key, value in saved['ema_state_dict'].items()
        if key != 'steps'
    }
    assert {k for k in average if differ(average[k], last[k])} == {
        f'architecture.{name}'
        for name, _ in runner.model.architecture.named_parameters()
        if is_lora_key(name)
    }
    for weights in (average, last):
        model = MODELS.build(stage.config(KINDS['both']).model)
        model.load_state_dict(weights)
        assert torch.equal(model.teacher(images), stage.teacher(images))
        assert names_of_what_moved(stage, model) == set(
            filter(is_lora_key, model.architecture.state_dict())
        )


# the preset and the config


def test_the_config_continues_the_student_beside_it():
    cfg = copy.deepcopy(read(LEAF))
    source = Config.fromfile(str(LEAF).replace('_lora', '_student'))
    runs = './work_dirs/reducenet8-w16-e4_digits'
    assert cfg.model.teacher_ckpt == f'{runs}_teacher'
    assert cfg.model.student_init == f'{runs}_student'
    assert cfg.model.architecture.backbone.pop('lora').kind == PAIR
    assert cfg.model.architecture == source.model.architecture
    assert cfg.model.distiller == source.model.distiller
    lora = preset('reuse', 'lora')
    assert lora == dict(
        reuse=dict(inherit='all', freeze='all'), norm_stats='inherited'
    )
    assert cfg.model.reuse == lora['reuse']
    assert cfg.model.norm_stats == lora['norm_stats']


def test_frozen_without_a_lora_it_has_nothing_to_train(stage):
    with pytest.raises(ValueError, match="freeze='all'.*backbone.lora"):
        MODELS.build(stage().config(None).model)


def test_a_sequential_block_takes_no_lora(stage):
    cfg = stage().config(dict(kind='1x1'))
    cfg.model.architecture.backbone.block = 'sequential'
    with pytest.raises(ValueError, match="beside the convolution of 'postsum"):
        MODELS.build(cfg.model)


def test_the_student_computes_it_and_the_teacher_does_not(stage, images):
    stage = stage()
    model = MODELS.build(stage.config(KINDS['both']).model)
    calls = []
    host = model.architecture.backbone.layer2[0].conv1
    host.lora.register_forward_hook(lambda *_: calls.append(host.scaler))
    model.init_weights()
    model.teacher(images)
    assert not calls
    model(images)
    assert calls == [0.0]
    assert STUDENT.lora and not TEACHER.lora
