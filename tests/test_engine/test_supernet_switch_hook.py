# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The switch inside real Runners, on real digits."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from reducenet_mm import set_scaler
from reducenet_mm.engine import SupernetSwitchHook
from reducenet_mm.engine.hooks.runner_facts import loader_of_its_own
from reducenet_mm.models.supernet import student_norms

CONFIGS = 'configs/reducenet/digits/'
NORM_STATS = ['inherited', 'recalibrated', 'live']


def run(name: str, work_dir: Any, epochs: int = 2, **options: Any) -> Runner:
    cfg = Config.fromfile(f'{CONFIGS}reducenet8-w16-e4_digits_{name}.py')
    cfg.work_dir = str(work_dir)
    cfg.merge_from_dict(
        {
            'train_cfg.max_epochs': epochs,
            'train_cfg.val_interval': 1,
            'param_scheduler.periods': [epochs],
            'train_dataloader.batch_size': 256,
            'default_hooks.logger.interval': 1,
            'experiment_name': f'{work_dir.name}_{epochs}_{len(options)}',
            **options,
        }
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('teacher')
    runner = run('teacher', work_dir, epochs=3)
    return work_dir, copy.deepcopy(runner.model).eval()


@pytest.fixture
def images():
    return torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def scalars(runner: Runner) -> list[dict]:
    path = f'{runner.log_dir}/vis_data/scalars.json'
    with open(path, encoding='utf-8') as file:
        return [json.loads(line) for line in file]


def accuracy(model: torch.nn.Module, loader: Any) -> float:
    """Independent of the hook: count right answers one by one."""
    model.eval()
    right = total = 0
    with torch.no_grad():
        for batch in loader:
            for sample in model.val_step(batch):
                right += int((sample.pred_label == sample.gt_label).item())
                total += 1
    return 100 * right / total


@pytest.mark.parametrize('view', ['student', 'teacher'])
@pytest.mark.parametrize('norm_stats', NORM_STATS)
def test_the_drop_shock_is_measured_and_logged(
    teacher, tmp_path, norm_stats, view, images
):
    work_dir, reference = teacher
    runner = run(
        'student',
        tmp_path,
        **{
            'model.teacher_ckpt': str(work_dir),
            'model.norm_stats': norm_stats,
            'model.predict_view': view,
            'val_evaluator': [
                dict(type='Accuracy', topk=(1,)),
                dict(type='SingleLabelMetric', average=None),
            ],
            'custom_hooks': [
                dict(type='SupernetSwitchHook'),
                dict(type='MemoryFormatHook'),
            ],
        },
    )
    loader = runner.val_dataloader
    student = copy.deepcopy(reference)
    set_scaler(student, 0.0)
    switch = [
        s for s in scalars(runner) if 'switch/student/accuracy/top1' in s
    ]
    assert len(switch) == 1
    expected = {
        'teacher': accuracy(reference, loader),
        'student': accuracy(student, loader),
    }
    for network, value in expected.items():
        measured = switch[0][f'switch/{network}/accuracy/top1']
        assert measured == pytest.approx(value, abs=1e-4)
    recalibrated = 'switch/student_recalibrated/accuracy/top1' in switch[0]
    assert recalibrated == (norm_stats == 'recalibrated')
    validations = [s for s in scalars(runner) if 'accuracy/top1' in s]
    assert len(validations) == 2
    assert all(
        v['teacher/accuracy/top1'] == pytest.approx(expected['teacher'])
        for v in validations
    )
    # Another layout means other kernels, whose last bits differ.
    same_layout = copy.deepcopy(reference).to(
        memory_format=torch.channels_last
    )
    with torch.no_grad():
        expected_output = same_layout(images)
    assert torch.equal(runner.model.teacher(images), expected_output)


def test_a_model_without_a_teacher_is_left_alone(tmp_path):
    hooks = [dict(type='SupernetSwitchHook')]
    runner = run('teacher', tmp_path, epochs=1, custom_hooks=hooks)
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    told = 'ImageClassifier has no scaler-1 teacher to switch from'
    assert f'SupernetSwitchHook does nothing: {told}' in log
    (validation,) = [s for s in scalars(runner) if 'accuracy/top1' in s]
    assert 'teacher/accuracy/top1' not in validation


def test_resuming_does_not_switch_again(teacher, tmp_path, images):
    work_dir, reference = teacher
    options = {
        'model.teacher_ckpt': str(work_dir),
        'model.norm_stats': 'recalibrated',
        'custom_hooks': [
            dict(type='SupernetSwitchHook'),
            dict(type='EMAHook', momentum=0.1),
        ],
    }
    first = run('student', tmp_path, epochs=1, **options)
    norms = dict(student_norms(first.model.architecture))
    kept = {k: norm.running_mean.clone() for k, norm in norms.items()}
    second = run('student', tmp_path, epochs=3, resume=True, **options)
    assert second.epoch == 3
    log = scalars(second)
    assert not [s for s in log if 'switch/student/accuracy/top1' in s]
    validations = [s for s in log if 'accuracy/top1' in s]
    # The checkpoint is older than its epoch's validation, which is run again.
    assert [v['step'] for v in validations] == [1, 2, 3]
    assert all('teacher/accuracy/top1' in v for v in validations)
    for name, norm in student_norms(second.model.architecture):
        assert torch.equal(norm.running_mean, kept[name])
    with torch.no_grad():
        expected = reference(images)
    assert torch.equal(second.model.teacher(images), expected)


def test_a_run_needs_its_teacher(tmp_path):
    with pytest.raises(RuntimeError, match='Set model.teacher_ckpt'):
        run('student', tmp_path, **{'model.teacher_ckpt': None})


def test_a_run_without_validation_switches_too(teacher, tmp_path):
    runner = run(
        'student',
        tmp_path,
        epochs=1,
        **{
            'model.teacher_ckpt': str(teacher[0]),
            'model.distiller': None,
            'val_cfg': None,
            'val_dataloader': None,
            'val_evaluator': None,
        },
    )
    assert runner.epoch == 1


def test_a_bad_number_of_samples_is_refused():
    with pytest.raises(ValueError, match='recalib_samples must be >= 1'):
        SupernetSwitchHook(recalib_samples=0)


def test_a_partly_fresh_student_alone_says_nothing_of_the_teacher(
    teacher, tmp_path
):
    """Without a distiller such a stage holds no teacher to be measured."""
    work_dir, _ = teacher
    runner = run(
        'student',
        tmp_path,
        epochs=1,
        **{
            'model.teacher_ckpt': str(work_dir),
            'model.reuse.inherit': ['classifier'],
            'model.reuse.freeze': [],
            'model.distiller': None,
        },
    )
    log = scalars(runner)
    assert [s for s in log if 'switch/student/accuracy/top1' in s]
    assert not [s for s in log if 'switch/teacher/accuracy/top1' in s]
    assert not [s for s in log if 'teacher/accuracy/top1' in s]


@HOOKS.register_module()
class FirstImages(Hook):
    """Keep the images of the first step of training."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 0:
            self.images = data_batch['inputs'].clone()


@pytest.mark.parametrize('sampler', ['SeededSampler', 'InfiniteSampler'])
def test_recalibration_takes_no_images_from_the_training(
    sampler, teacher, tmp_path
):
    """By iterations, and left early InfiniteSampler would be at its end.

    Its own loader has the training's order.
    """
    seen = []
    pipeline = [dict(type='SeedSample'), dict(type='PackInputs')]
    for norm_stats, workers in (
        ('live', 0),
        ('recalibrated', 0),
        ('recalibrated', 1),
    ):
        runner = run(
            'student',
            tmp_path / f'{norm_stats}{workers}',
            **{
                'model.teacher_ckpt': str(teacher[0]),
                'model.norm_stats': norm_stats,
                'train_cfg': dict(
                    _delete_=True, by_epoch=False, max_iters=1, val_interval=1
                ),
                'param_scheduler': None,
                'train_dataloader.num_workers': workers,
                'train_dataloader.persistent_workers': workers > 0,
                'train_dataloader.sampler.type': sampler,
                'train_dataloader.dataset.pipeline': pipeline[
                    sampler == 'InfiniteSampler' :
                ],
                'custom_hooks': [
                    dict(type='SupernetSwitchHook', recalib_samples=512),
                    dict(type='FirstImages'),
                ],
            },
        )
        seen += [h.images for h in runner.hooks if isinstance(h, FirstImages)]
        own = next(iter(loader_of_its_own(runner)))
        assert torch.equal(own['inputs'], seen[-1])
    first, *others = seen
    assert len(others) == 2
    assert all(torch.equal(first, other) for other in others)


def test_the_drop_is_measured_in_the_loops_precision(teacher, tmp_path):
    dtypes = set()

    def watch(module, inputs, output):
        if isinstance(module, torch.nn.Linear) and not module.training:
            dtypes.add(output.dtype)

    settings = {
        'model.teacher_ckpt': str(teacher[0]),
        'model.distiller': None,
        'val_cfg.fp16': True,
    }
    with torch.nn.modules.module.register_module_forward_hook(watch):
        run('student', tmp_path, epochs=1, **settings)
    assert dtypes == {torch.bfloat16}
