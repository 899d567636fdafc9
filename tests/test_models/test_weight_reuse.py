# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Weight reuse by role: what is inherited, fresh, frozen and trained."""

from __future__ import annotations

import copy

import pytest
import torch
from mmpretrain.registry import MODELS

from reducenet_mm.models.algorithms.weight_reuse import WeightReuse
from reducenet_mm.models.checkpoint_views import split_state_dict
from reducenet_mm.models.roles import (
    ROLES,
    parameters_by_role,
)
from reducenet_mm.models.supernet import is_branch_key, student_norms
from tests.test_models.distillation import (
    assert_teacher_is,
    optimizer,
    soft_labels,
    teacher_copy,
    train,
)
from tests.test_models.grafts import classifier_around, grafted_cfg

POLICIES = {
    'all': dict(),
    'fresh': dict(inherit=[]),
    'fresh_main_conv': dict(
        inherit=['stem', 'second_conv', 'norms', 'shortcut', 'classifier'],
        freeze=['stem', 'second_conv', 'norms', 'shortcut', 'classifier'],
    ),
    'donor_of_one_stage': dict(inherit=[r're:backbone\.layer1\..+']),
    'frozen_by_regex': dict(freeze=[r're:.+\.bn2\.(weight|bias)', 'stem']),
}


def policies(**more):
    names = sorted(POLICIES)
    return pytest.mark.parametrize(
        'reuse', [POLICIES[name] for name in names], ids=names, **more
    )


def student_keys(model):
    return [key for key in model.state_dict() if not is_branch_key(key)]


# where the student starts


def test_a_fresh_student_is_what_the_architecture_initialises(
    build, classifier, classifier_cfg
):
    torch.manual_seed(3)
    algorithm = build(load=False, reuse=dict(inherit=[]))
    drawn = torch.rand(1)
    torch.manual_seed(3)
    alone = MODELS.build(classifier_cfg())
    alone.init_weights()
    assert torch.equal(drawn, torch.rand(1))
    algorithm.load_teacher(classifier.state_dict())
    own, fresh = algorithm.architecture.state_dict(), alone.state_dict()
    teacher = classifier.state_dict()
    for key, value in own.items():
        source = teacher if is_branch_key(key) else fresh
        assert torch.equal(value, source[key]), key
    assert not torch.equal(own['head.fc.weight'], teacher['head.fc.weight'])


def test_what_is_inherited_and_what_is_fresh(build, classifier):
    algorithm = build(
        reuse=dict(inherit=['main_conv', r're:backbone\.layer1\.0\.bn2\..+'])
    )
    own, teacher = algorithm.architecture.state_dict(), classifier.state_dict()
    inherited = {
        key
        for key in student_keys(classifier)
        if torch.equal(own[key], teacher[key])
        and not key.endswith(('num_batches_tracked', 'head.fc.bias'))
    }
    bn2 = 'backbone.layer1.0.bn2'
    assert inherited == {
        *(f'backbone.layer{i}.0.conv1.weight' for i in (1, 2, 3)),
        *(f'{bn2}.{key}' for key in ('weight', 'bias')),
        *(f'{bn2}.{key}' for key in ('running_mean', 'running_var')),
    }
    assert own['backbone.bn1.running_mean'].eq(0).all()
    assert not algorithm.starts_as_teacher
    student = build(reuse=dict(freeze=['norms']))
    assert student.starts_as_teacher
    # Of an earlier student are the values, as by `load_from`.
    student.load_state_dict(student.state_dict())
    assert not student.starts_as_teacher


def test_the_statistics_follow_the_whole_norm(build):
    algorithm = build(reuse=dict(inherit=[r're:.+\.weight']))
    assert {'backbone.bn1.bias', 'backbone.bn1.running_mean'} <= set(
        algorithm.fresh
    )


@pytest.mark.parametrize('lora', [None, dict(kind='weight')])
@pytest.mark.parametrize(
    ('inherit', 'fresh'),
    [
        (['re:(?!.*lora).*'], set()),
        ([r're:backbone\.layer1\..*'], {'bn1', 'layer2', 'layer3', 'layer4'}),
    ],
)
def test_statistics_without_parameters_follow_what_is_around_them(
    inherit, fresh, lora
):
    norm_cfg = dict(type='BN', affine=False)
    backbone = grafted_cfg(
        'ResNet', backbone=dict(norm_cfg=norm_cfg), lora=lora
    )
    algorithm = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=classifier_around(backbone, 64),
            reuse=dict(inherit=inherit),
        )
    )
    moving = [key for key in algorithm.fresh if 'running_mean' in key]
    assert {key.split('.')[1] for key in moving} == fresh


@pytest.mark.parametrize(
    ('kind', 'frozen', 'targets', 'channels'),
    [
        ('ResNet', 1, r'layer2\.0\.conv1', 64),
        ('MobileNetV2', 3, 'depthwise', 1280),
        ('ShuffleNetV2', 2, 'block_first_conv', 1024),
    ],
)
def test_stages_that_a_backbone_freezes_when_it_trains_count_as_frozen(
    kind, frozen, targets, channels
):
    """Some do it in ``train()``: they would stay at their random start."""
    small = dict(base_channels=8, stem_channels=8)
    if kind != 'ResNet':
        small = dict(widen_factor=0.25 if kind == 'MobileNetV2' else 0.5)
    backbone = grafted_cfg(
        kind, backbone=dict(small, frozen_stages=frozen), targets=targets
    )
    cfg = dict(
        _scope_='mmrazor',
        type='SupernetDistill',
        architecture=classifier_around(backbone, channels),
        distiller=soft_labels(),
    )
    cfg['reuse'] = dict(inherit='all')
    MODELS.build(cfg)  # a frozen start of the teacher's is none at random
    cfg['reuse'] = dict(inherit=['classifier', 'norms'])
    with pytest.raises(ValueError, match='would stay at their random start'):
        MODELS.build(cfg)


def test_the_log_counts_tensors_and_parameters(build, classifier, logged):
    build(reuse=dict(inherit=['classifier', 'stem'], freeze=['classifier']))
    sizes = {
        n: p.numel()
        for n, p in classifier.named_parameters()
        if not is_branch_key(n)
    }
    stem = 4 * 3 * 9 + 2 * 4
    head, total = 16 * 5 + 5, sum(sizes.values())
    (line,) = [line for line in logged if 'The student inherits' in line]
    assert line == (
        f'the teacher: loaded. The student inherits 5 tensors ({stem + head} '
        f'parameters) of it and starts {len(sizes) - 5} tensors '
        f'({total - stem - head:,} parameters) afresh; {len(sizes) - 2} '
        f'tensors ({total - head:,} parameters) train, 2 tensors ({head} '
        'parameters) are frozen; norm statistics are live.'
    )


# the invariants hold for every policy


@policies()
def test_the_overlay_is_exactly_what_may_differ(build, reuse):
    algorithm = build(reuse=reuse)
    architecture = algorithm.architecture
    expected = {
        n for n, p in architecture.named_parameters() if p.requires_grad
    }
    for name, norm in student_norms(architecture):
        expected |= {key for key, _ in norm.named_buffers(name)}
    assert set(algorithm.teacher_overlay.tensors()) == expected
    frozen = set(student_keys(architecture)) - expected
    assert bool(frozen) == bool(reuse.get('freeze'))


@policies()
@pytest.mark.parametrize('norm_stats', ['recalibrated', 'live'])
def test_only_what_should_train_changes(build, classifier, reuse, norm_stats):
    algorithm = build(reuse=reuse, norm_stats=norm_stats)
    reference = teacher_copy(classifier)
    assert_teacher_is(algorithm, reference)
    before = copy.deepcopy(algorithm.state_dict())
    params = dict(algorithm.architecture.named_parameters())
    optim = optimizer(algorithm)
    held = {id(p) for g in optim.param_groups for p in g['params']}
    trained = {n for n, p in params.items() if p.requires_grad}
    assert held == {id(params[name]) for name in trained}
    train(algorithm, steps=3, optim=optim)
    after = algorithm.state_dict()
    changed = {k for k in after if not torch.equal(after[k], before[k])}
    expected = {f'architecture.{name}' for name in trained}
    if norm_stats == 'live':
        for name, norm in student_norms(algorithm.architecture):
            expected |= {
                f'architecture.{key}' for key, _ in norm.named_buffers(name)
            }
    assert changed == expected
    assert_teacher_is(algorithm, reference)


@policies()
def test_both_networks_come_back_from_the_file(
    build, classifier, save, reuse, tmp_path
):
    first = build(reuse=reuse)
    train(first)
    file = torch.load(save(first, 'distill.pth'), weights_only=True)
    teacher, student = split_state_dict(file['state_dict'])
    original, own = classifier.state_dict(), first.architecture.state_dict()
    assert teacher.keys() == original.keys()
    assert all(torch.equal(teacher[k], original[k]) for k in original)
    assert all(torch.equal(student[k], own[k]) for k in student)
    second = build(load=False, reuse=reuse)
    second.load_state_dict(file['state_dict'])
    train(second)
    assert_teacher_is(second, teacher_copy(classifier))


@policies()
def test_without_a_distiller_the_teacher_is_only_a_donor(build, reuse):
    algorithm = build(reuse=reuse, distiller=None)
    assert algorithm.teacher_overlay is None
    train(algorithm, steps=1)
    teacher, _ = split_state_dict(algorithm.state_dict())
    assert teacher is None


def test_a_lora_stage_trains_the_lora_alone(build, classifier):
    lora = dict(kind='1x1')
    freeze = [role for role in ROLES if role != 'lora']
    algorithm = build(backbone=dict(lora=lora), reuse=dict(freeze=freeze))
    params = dict(algorithm.architecture.named_parameters())
    trained = {n for n, p in params.items() if p.requires_grad}
    assert trained == parameters_by_role(algorithm.architecture)['lora']
    assert trained == {n for n in params if '.lora.' in n} != set()
    assert not algorithm.fresh
    before = {n: p.clone() for n, p in params.items()}
    assert {n for n in algorithm.teacher_overlay.tensors()} == {
        key
        for name, norm in student_norms(classifier)
        for key, _ in norm.named_buffers(name)
    }
    train(algorithm, steps=2)
    for name, param in params.items():
        changed = not torch.equal(param, before[name])
        assert changed == (name in trained), name
    assert_teacher_is(algorithm, teacher_copy(classifier))


# bad settings


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(reuse=dict(inherit='stem')), r"got 'stem'. Write inherit=\["),
        (dict(reuse=dict(inherit=['body'])), r"inherit has unknown .*'body'"),
        (dict(reuse=dict(freeze=['re:('])), 'freeze: .* no regular expr'),
        (
            dict(reuse=dict(freeze=['re:layer1'])),
            r"no parameter of ImageClassifier matches 're:layer1' \(a full",
        ),
        (
            dict(reuse=dict(inherit=[r're:.+\.expand\..+'])),
            'inherit: no parameter',
        ),
        (
            dict(reuse=dict(inherit=[], freeze=['classifier'])),
            'head.fc.weight and 1 more parameters would stay at their random',
        ),
        (
            dict(
                reuse=dict(freeze=['main_conv']),
                backbone=dict(block='sequential', student_conv='fresh'),
            ),
            "conv1.weight and 5 more .*student_conv='fresh' leaves them out",
        ),
        (
            dict(reuse=dict(inherit=[]), backbone=dict(frozen_stages=1)),
            'backbone.frozen_stages freezes them',
        ),
        (
            dict(reuse=dict(inherit=['stem']), norm_stats='inherited'),
            'layer1.0.bn1 is not inherited .* mean 0 and variance 1',
        ),
        (
            dict(reuse=dict(inherit=[]), backbone=dict(norm_eval=True)),
            'bn1 is not inherited .*norm_eval',
        ),
        (
            dict(reuse=dict(inherit=['stem']), student_init='s.pth'),
            "has no meaning with model.student_init='s.pth'",
        ),
        (
            dict(reuse=dict(freeze=['classifier', r're:backbone\..+'])),
            'nothing is left to train',
        ),
    ],
)
def test_bad_settings_are_refused(build, settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_a_students_checkpoint_is_a_start_of_new_convolutions(
    classifier_cfg,
):
    """What a stage before this one trained may stay as it is."""
    cfg = classifier_cfg(block='sequential', student_conv='fresh')
    network = MODELS.build(cfg)
    policy = WeightReuse(freeze=['main_conv'])
    with pytest.raises(ValueError, match='stay at their random start'):
        policy.apply_(network)
    policy.apply_(network, has_start=True)
    assert not network.backbone.layer1[0].conv1.weight.requires_grad
    assert network.backbone.layer1[0].conv2.weight.requires_grad
