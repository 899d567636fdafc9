# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What the files in configs/_base_/distill and inplace bring to a config."""

from __future__ import annotations

import torch
from mmengine.config import Config
from mmpretrain.structures import DataSample

from .config_runs import CONFIGS, load, prepare, run

STUDENT = CONFIGS / 'reducenet/digits/reducenet8-w16-e4_digits_student.py'
TEACHER = CONFIGS / 'reducenet/digits/reducenet8-w16-e4_digits_teacher.py'


def test_soft_labels_preset_by_hand(tmp_path):
    runner, _ = run(prepare(STUDENT, tmp_path))
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
    hooked = tmp_path / 'teacher.py'
    hooked.write_text(
        f"_base_ = {str(TEACHER)!r}\ncustom_hooks = [dict(type='EMAHook')]\n"
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
    cfg = prepare(STUDENT, tmp_path)
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
