# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Every config loads, says what it should, trains and validates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from .config_runs import (
    CLASSES,
    CONFIGS,
    LEAVES,
    SHAPES,
    load,
    prepare,
    run,
    stem,
)

TEACHERS = [path for path in LEAVES if path.stem.endswith('_teacher')]
STUDENTS = [path for path in LEAVES if path.stem.endswith('_student')]
PUBLISHED = [path for path in LEAVES if '_student-published' in path.stem]
LORAS = [path for path in LEAVES if path.stem.endswith('_lora')]
PLAIN = [path for path in LEAVES if path.stem.startswith('plain')]
INPLACE = [path for path in LEAVES if '_inplace' in path.stem]
# The others are checked in tests/test_experiments/test_stage_order.py.
PIPELINES = [
    CONFIGS / 'pipelines' / f'{name}.py'
    for name in ('digits', 'fashion-mnist')
]


def teacher_of(path: Path) -> Path:
    """The teacher's config beside a student's or a plain network's."""
    (teacher,) = path.parent.glob('*_teacher.py')
    return teacher


def types(pipeline: list[dict]) -> list[str]:
    return [step['type'] for step in pipeline]


def loss_names(path: Path) -> set[str]:
    if path.stem.endswith('published-june'):
        return {'student.loss', 'loss'}
    if path in STUDENTS + LORAS + PUBLISHED:
        return {'student.loss', 'distill.loss_kl', 'loss'}
    if path not in INPLACE:
        return {'loss'}
    names = {'teacher.loss', 'student.loss', 'loss'}
    if not path.stem.endswith('netaug'):
        names.add('distill.loss_kl')
    if path.stem.endswith('sandwich'):
        names |= {'sandwich_0.loss', 'distill.sandwich_0.loss_kl'}
    return names


def test_every_family_is_complete():
    assert {path.parent.name for path in LEAVES} == set(SHAPES)
    assert len(TEACHERS) == len(STUDENTS) == len(PLAIN) == len(SHAPES)
    assert (
        sorted(TEACHERS + STUDENTS + PUBLISHED + LORAS + PLAIN + INPLACE)
        == LEAVES
    )


@pytest.mark.parametrize('path', LEAVES, ids=stem)
def test_trains_validates_and_tests(path, tmp_path):
    family = path.parent.name
    runner, seen = run(prepare(path, tmp_path))

    ((inputs, losses),) = seen['train']
    assert inputs.shape == (4, *SHAPES[family])
    assert set(losses) == loss_names(path)
    values = {name: loss.item() for name, loss in losses.items()}
    if path in INPLACE:  # at the start both networks are still the same
        soft = [name for name in values if name.startswith('distill')]
        assert all(abs(values[name]) < 1e-6 for name in soft)
        assert values['teacher.loss'] == pytest.approx(values['student.loss'])
        values.update(dict.fromkeys(soft, 1e-9))
    assert all(0 < loss < float('inf') for loss in values.values())
    parts = [loss for name, loss in values.items() if '.' in name]
    assert values['loss'] == pytest.approx(sum(parts or values.values()))

    for name, count in (('val', 2), ('test', 3)):
        ((inputs, samples),) = seen[name]
        assert inputs.shape == (count, *SHAPES[family])
        scores = torch.stack([sample.pred_score for sample in samples])
        assert scores.shape == (count, CLASSES.get(family, 10))
        torch.testing.assert_close(scores.sum(1), torch.ones(count))
    scalars = runner.message_hub.log_scalars
    assert 0 <= scalars['test/accuracy/top1'].current() <= 100
    assert ('val/accuracy/top5' in scalars) == (family in CLASSES)
    assert ('val/teacher/accuracy/top1' in scalars) == (
        path not in TEACHERS + PLAIN
        and not path.stem.endswith('published-june')  # it has no teacher
    )


@pytest.mark.parametrize('path', LEAVES, ids=stem)
def test_splits_are_apart(path):
    cfg = load(path)
    train, val, test = (
        cfg[f'{field}_dataloader'].dataset
        for field in ('train', 'val', 'test')
    )
    if path.parent.name == 'digits':
        assert (train.split, val.split) == ('train', 'val')
        assert test.split == 'test'
        return
    assert (train.part, val.part) == ('train', 'val')
    assert val.val_size == train.val_size
    assert val.get('seed', 0) == train.get('seed', 0)
    sources = [dict(part.dataset) for part in (train, val)]
    pipelines = [types(source.pop('pipeline')) for source in sources]
    assert sources[0] == sources[1]
    assert any(name.startswith('Random') for name in pipelines[0])
    assert not any(name.startswith('Random') for name in pipelines[1])
    assert pipelines[1] == types(test.pipeline)
    assert sources[0]['split'] == 'train'
    assert test.split == ('val' if test.type == 'ImageNet' else 'test')
    assert test.data_root == sources[0]['data_root']


@pytest.mark.parametrize('path', STUDENTS + PUBLISHED, ids=stem)
def test_student_distils_its_own_teacher(path):
    cfg, teacher = load(path), teacher_of(path)
    source = load(teacher)
    if path.stem.endswith('published-head'):
        source.model.head.loss.loss_weight = 0.3
    assert cfg.model.architecture == source.model
    assert cfg.data_preprocessor == source.data_preprocessor
    assert cfg.model.teacher_ckpt == f'./work_dirs/{teacher.stem}'
    assert cfg.optim_wrapper.optimizer == source.optim_wrapper.optimizer
    for key in ('train_dataloader', 'param_scheduler', 'train_cfg'):
        assert cfg[key] == source[key]


@pytest.mark.parametrize('path', PLAIN, ids=stem)
def test_plain_network_is_the_student_trained_alike(path):
    cfg, source = load(path), load(teacher_of(path))
    supernet = dict(source.model.backbone, type='PlainResNet')
    del supernet['expansion'], supernet['block']
    assert cfg.model.backbone == supernet
    for key in ('optim_wrapper', 'train_dataloader', 'param_scheduler'):
        assert cfg[key] == source[key]


@pytest.mark.parametrize('path', LEAVES, ids=stem)
def test_schedule_covers_the_training(path):
    cfg = load(path)
    assert sum(cfg.param_scheduler.periods) == cfg.train_cfg.max_epochs
    assert cfg.default_hooks.checkpoint.get('save_best') is None


def test_learning_rate_ends_at_zero_and_restarts(tmp_path):
    path = CONFIGS / 'reducenet/digits/plain8-w16_digits.py'
    cfg = prepare(path, tmp_path)
    cfg.train_cfg.max_epochs = 4
    cfg.param_scheduler.update(periods=[2, 2], restart_weights=[1, 1])
    runner, _ = run(cfg)
    peak = cfg.optim_wrapper.optimizer.lr
    rates = runner.message_hub.log_scalars['train/lr'].data[0]
    # One iteration an epoch: the cosine's start and middle, twice.
    assert rates.tolist() == pytest.approx([peak, peak / 2] * 2)


@pytest.mark.parametrize(
    ('family', 'variable'),
    [
        ('fashion-mnist', 'FASHION_MNIST_ROOT'),
        ('cifar10', 'CIFAR10_ROOT'),
        ('cifar100', 'CIFAR100_ROOT'),
        ('imagenet', 'IMAGENET_ROOT'),
    ],
)
def test_one_variable_moves_all_three_splits(family, variable, monkeypatch):
    path = CONFIGS / f'_base_/datasets/{family}.py'

    def roots() -> set[str]:
        cfg = Config.fromfile(path)
        return {
            cfg.train_dataloader.dataset.dataset.data_root,
            cfg.val_dataloader.dataset.dataset.data_root,
            cfg.test_dataloader.dataset.data_root,
        }

    monkeypatch.delenv(variable, raising=False)
    assert roots() == {f'data/{family}/'}
    monkeypatch.setenv(variable, '/elsewhere')
    assert roots() == {'/elsewhere'}


@pytest.mark.parametrize('path', PIPELINES, ids=stem)
def test_pipeline_names_configs_that_are_there(path):
    cfg = load(path)
    assert [stage.name for stage in cfg.stages] == ['teacher', 'student']
    assert [control.name for control in cfg.controls] == [
        'plain',
        'plain_restart',
    ]
    paths = {
        entry.name: (path.parent / entry.config).resolve()
        for entry in [*cfg.stages, *cfg.controls]
    }
    assert paths['teacher'] in TEACHERS
    assert paths['student'] in STUDENTS
    assert teacher_of(paths['student']) == paths['teacher']
    assert paths['plain'] == paths['plain_restart']
    assert paths['plain'] in PLAIN
    assert paths['plain'].parent == paths['teacher'].parent
    assert 'restart_at' not in cfg.controls[0]
    assert cfg.controls[1].restart_at == 'student'
    for config in paths.values():
        assert load(config).model.type
