# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Every config loads, says what it should, trains and validates."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from .tiny_data import use_tiny_data

CONFIGS = Path(__file__).parents[1] / 'configs'
# Run by tests/test_dense, with MMDetection and MMSegmentation, and by
# tests/test_configs_grafted.py.
ELSEWHERE = ('detection', 'segmentation', 'grafted')
LEAVES = sorted(
    path
    for path in (CONFIGS / 'reducenet').glob('*/*.py')
    if path.parent.name not in ELSEWHERE
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
SHAPES = {
    'digits': (1, 8, 8),
    'fashion-mnist': (1, 28, 28),
    'cifar10': (3, 32, 32),
    'cifar100': (3, 32, 32),
    'imagenet': (3, 224, 224),
}
CLASSES = {'cifar100': 100, 'imagenet': 1000}


@functools.cache
def read(path: Path) -> Config:
    return Config.fromfile(path)


def load(path: Path) -> Config:
    return copy.deepcopy(read(path))


def stem(path: Path) -> str:
    return path.stem


def teacher_of(path: Path) -> Path:
    """The teacher's config beside a student's or a plain network's."""
    (teacher,) = path.parent.glob('*_teacher.py')
    return teacher


class Record(Hook):
    """Keep what goes into and comes out of each iteration."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Any]] = {}

    def _add(self, name: str, batch: dict, outputs: Any) -> None:
        self.seen.setdefault(name, []).append((batch['inputs'], outputs))

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self._add('train', data_batch, outputs)

    def after_val_iter(self, runner, batch_idx, data_batch, outputs):
        self._add('val', data_batch, outputs)

    def after_test_iter(self, runner, batch_idx, data_batch, outputs):
        self._add('test', data_batch, outputs)


def prepare(path: Path, tmp_path: Path) -> Config:
    """The config for one training iteration on a few images."""
    cfg = use_tiny_data(load(path), tmp_path)
    cfg.work_dir = str(tmp_path / 'work_dir')
    cfg.experiment_name = f'{path.stem}_{tmp_path.name}'
    cfg.train_cfg.max_epochs = 1
    cfg.param_scheduler.periods = [1]
    for key in ('teacher_ckpt', 'student_init'):
        if key in cfg.model:  # both of the architecture without `lora`
            backbone = dict(cfg.model.architecture.backbone, lora=None)
            network = MODELS.build(
                dict(cfg.model.architecture, backbone=backbone)
            )
            network.init_weights()
            cfg.model[key] = str(tmp_path / f'{key}.pth')
            torch.save(dict(state_dict=network.state_dict()), cfg.model[key])
    return cfg


def run(cfg: Config) -> tuple[Runner, dict[str, list[Any]]]:
    runner = Runner.from_cfg(cfg)
    record = Record()
    runner.register_hook(record)
    runner.train()
    runner.test()
    return runner, record.seen


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


def test_soft_labels_preset_by_hand(tmp_path):
    path = CONFIGS / 'reducenet/digits/reducenet8-w16-e4_digits_student.py'
    runner, _ = run(prepare(path, tmp_path))
    model = runner.model.train()
    # With the small logits of a fresh network tau would hardly matter.
    model.architecture.head.fc.weight.detach().mul_(100)
    inputs = torch.randn(4, 1, 8, 8)
    labels = torch.tensor([0, 3, 9, 3])
    samples = [DataSample().set_gt_label(int(label)) for label in labels]
    losses = model(inputs, samples, mode='loss')
    student = model.architecture(inputs, mode='tensor')
    teacher = model.teacher(inputs)
    assert not torch.allclose(student, teacher)

    def soft_loss(tau: float) -> torch.Tensor:
        soft = (teacher / tau).softmax(1)
        ratio = soft.log() - (student / tau).log_softmax(1)
        return tau**2 * (soft * ratio).sum(1).mean()

    torch.testing.assert_close(losses['distill.loss_kl'], soft_loss(4))
    assert not torch.allclose(soft_loss(4), soft_loss(3), rtol=0.01)
    hard = -student.log_softmax(1)[range(4), labels].mean()
    torch.testing.assert_close(losses['student.loss'], hard)


def test_presets_go_beside_the_hooks_of_a_teacher(tmp_path):
    teacher = CONFIGS / 'reducenet/digits/reducenet8-w16-e4_digits_teacher.py'
    hooked = tmp_path / 'teacher.py'
    hooked.write_text(
        f"_base_ = {str(teacher)!r}\ncustom_hooks = [dict(type='EMAHook')]\n"
    )
    for preset, name in (
        ('distill/dkd', 'student_hooks'),
        ('inplace/netaug', 'inplace_hooks'),
    ):
        student = tmp_path / 'student.py'
        student.write_text(
            f"_base_ = [{str(hooked)!r}, '{CONFIGS}/_base_/{preset}.py']\n"
            f'custom_hooks = [*_base_.custom_hooks, *_base_.{name}]\n'
        )
        cfg = Config.fromfile(student)
        kinds = [hook['type'] for hook in cfg.custom_hooks]
        assert kinds == ['EMAHook', cfg[name][0]['type']]


def test_preset_without_distiller(tmp_path):
    path = CONFIGS / 'reducenet/digits/reducenet8-w16-e4_digits_student.py'
    cfg = prepare(path, tmp_path)
    preset = load(CONFIGS / '_base_/distill/none.py')
    assert preset.student_hooks == cfg.custom_hooks
    assert preset.student_optim_wrapper.constructor == (
        cfg.optim_wrapper.constructor
    )
    cfg.model.distiller = preset.distiller
    runner, seen = run(cfg)
    ((_, losses),) = seen['train']
    assert set(losses) == {'student.loss', 'loss'}
    assert runner.model.teacher_overlay is None


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
