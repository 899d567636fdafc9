# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Presets: what trains, and how they go together in a config."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import Runner
from mmrazor.registry import MODELS

from reducenet_mm.models.roles import parameters_by_role
from reducenet_mm.models.supernet import is_branch_key
from tests.test_models.by_hand import outputs, soft_labels_published
from tests.test_models.distillation import batch, teacher_copy, train
from tests.test_models.presets import BASES, REUSE, distiller, reuse
from tests.tiny_data import use_tiny_data


def test_reuse_presets_train_what_they_say(build, classifier):
    roles = parameters_by_role(classifier)
    everything = {
        n for n, _ in classifier.named_parameters() if not is_branch_key(n)
    }
    weight = {'head.fc.weight'}
    after = roles['main_norm'] | roles['second_conv'] | roles['second_norm']
    trained = {
        'classifier': everything - roles['classifier'],
        'classifier_norms': everything - roles['classifier'] - roles['norms'],
        'main_conv': roles['main_conv'],
        'published_head': everything,
        'published_june': roles['main_conv'] | roles['shortcut'],
        'published_classifier_only': everything - weight,
    }
    assert trained.keys() == set(REUSE)
    assert trained['published_june'] == (
        everything - roles['stem'] - after - roles['classifier']
    )
    for name, expected in trained.items():
        algorithm = build(distiller=None, **reuse(name))
        params = algorithm.architecture.named_parameters()
        assert {n for n, p in params if p.requires_grad} == expected, name
        fresh = roles['main_conv'] if name == 'published_june' else set()
        assert set(algorithm.fresh) == fresh, name


@pytest.mark.parametrize(
    ('norm_stats', 'moves'), [('live', True), ('inherited', False)]
)
def test_main_conv_says_which_statistics_move(
    build, classifier, norm_stats, moves
):
    policy = {**reuse('main_conv'), 'norm_stats': norm_stats}
    algorithm = build(distiller=None, **policy)
    before = {k: v.clone() for k, v in algorithm.state_dict().items()}
    train(algorithm)
    changed = {
        key.removeprefix('architecture.')
        for key, value in algorithm.state_dict().items()
        if not torch.equal(value, before[key])
    }
    parameters = parameters_by_role(classifier)['main_conv']
    assert parameters <= changed
    statistics = changed - parameters
    assert all('running' in k or 'num_batches' in k for k in statistics)
    assert bool(statistics) == moves


CIFAR = BASES.parent / 'reducenet/cifar10/reducenet20-w16-e1_cifar10_student'


def published(recipe, classifier_cfg, classifier):
    """A leaf's algorithm on the tests' small network, with its weights."""
    cfg = Config.fromfile(f'{CIFAR}-published-{recipe}.py').model
    small = classifier_cfg()
    small['head']['loss'] = cfg.architecture.head.loss.to_dict()
    algorithm = MODELS.build(dict(cfg, architecture=small, teacher_ckpt=None))
    algorithm.load_teacher(classifier.state_dict())
    return cfg, algorithm.train()


def test_the_leaf_of_head_is_the_whole_recipe(classifier_cfg, classifier):
    cfg, algorithm = published('head', classifier_cfg, classifier)
    assert cfg.distiller == distiller('soft_labels_published')
    for key, value in reuse('published_head').items():
        assert cfg[key] == value
    inputs, samples = batch()
    labels = torch.tensor([int(one.gt_label) for one in samples])
    teacher = outputs(teacher_copy(classifier), inputs)
    student = outputs(copy.deepcopy(algorithm.architecture), inputs)
    soft = soft_labels_published(teacher, student, labels)['loss_kl']
    hard = F.cross_entropy(student[0], labels)
    losses = algorithm.loss(inputs, samples)
    torch.testing.assert_close(losses['student.loss'], 0.3 * hard)
    torch.testing.assert_close(losses['distill.loss_kl'], soft)
    assert losses.keys() == {'student.loss', 'distill.loss_kl'}


def test_the_leaf_of_june_is_the_whole_recipe(classifier_cfg, classifier):
    cfg, algorithm = published('june', classifier_cfg, classifier)
    assert cfg.distiller is None
    for key, value in reuse('published_june').items():
        assert cfg[key] == value
    assert algorithm.loss(*batch()).keys() == {'student.loss'}
    assert algorithm.architecture.head.loss_module.loss_weight == 1.0
    roles = parameters_by_role(classifier)
    assert set(algorithm.fresh) == roles['main_conv']


def test_a_leaf_takes_rates_by_role(tmp_path):
    leaf = tmp_path / 'leaf.py'
    leaf.write_text(f"""
_base_ = '{CIFAR}-published-head.py'
model = dict(architecture=dict(backbone=dict(depth=8)))
optim_wrapper = dict(paramwise_cfg=dict(roles=dict(classifier=0.1)))
""")
    cfg = use_tiny_data(Config.fromfile(leaf), tmp_path)
    cfg.work_dir = str(tmp_path / 'work_dir')
    cfg.train_cfg.max_epochs = 1
    cfg.model.teacher_ckpt = str(tmp_path / 'teacher.pth')
    network = MODELS.build(cfg.model.architecture)
    torch.save(dict(state_dict=network.state_dict()), cfg.model.teacher_ckpt)
    runner = Runner.from_cfg(cfg)
    runner.train()
    model = runner.model
    assert model.architecture.head.loss_module.loss_weight == 0.3
    assert model.distiller.distill_losses['loss_kl'].tau == 5
    assert cfg.optim_wrapper.optimizer.weight_decay > 0
    rates = runner.optim_wrapper.get_lr()['lr']
    assert sorted(set(rates))[0] == pytest.approx(max(rates) / 10)
    assert rates.count(min(rates)) == 2
    scalars = runner.message_hub.log_scalars
    assert scalars['train/distill.loss_kl'].current() > 0
