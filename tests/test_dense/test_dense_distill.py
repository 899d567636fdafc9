# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""SupernetDistill on a detector and on a segmentor, in real Runners."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from reducenet_mm.engine.hooks.supernet_switch_hook import recalibrate
from reducenet_mm.models.supernet import is_branch_key

from .configs import detector, distilled
from .distillation import (
    KINDS,
    Trained,
    answers,
    build,
    evaluate,
    student_of,
    trained_teacher,
)
from .images import write_images


def scalars(trained: Trained) -> list[dict]:
    path = Path(trained.runner.log_dir) / 'vis_data' / 'scalars.json'
    return [json.loads(line) for line in path.read_text().splitlines()]


def tensors(outputs) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [tensor for part in outputs for tensor in tensors(part)]


def batch(trained: Trained) -> dict:
    """A validation batch, preprocessed by the teacher."""
    raw = next(iter(trained.runner.val_dataloader))
    return trained.teacher.data_preprocessor(raw, False)


def test_the_teacher_is_what_it_was_bit_for_bit(trained):
    data = batch(trained)
    with torch.no_grad():
        expected = tensors(trained.teacher(**data, mode='tensor'))
        student = tensors(student_of(trained.teacher)(**data, mode='tensor'))
    found = tensors(trained.runner.model.teacher(**data))
    assert len(found) == len(expected) > 0
    assert all(map(torch.equal, found, expected))
    assert not any(map(torch.equal, found, student))
    for mode_of in (trained.teacher, trained.runner.model.teacher):
        with torch.no_grad():
            samples = mode_of(**copy.deepcopy(data), mode='predict')
        if mode_of is trained.teacher:
            expected = answers(samples)
    assert all(map(torch.equal, answers(samples), expected))


def test_exactly_what_is_not_frozen_has_changed(trained):
    before = trained.teacher.state_dict()
    after = trained.runner.model.architecture.state_dict()
    params = dict(trained.teacher.named_parameters())
    changed = {k for k in params if not torch.equal(before[k], after[k])}
    frozen = ('backbone.conv1.', 'backbone.bn1.', 'backbone.layer1.')
    assert changed == {
        k for k in params if not k.startswith(frozen) and not is_branch_key(k)
    }
    assert any(key.startswith('backbone.layer3') for key in changed)


def test_the_optimizer_holds_exactly_what_trains(trained):
    model = trained.runner.model
    groups = trained.runner.optim_wrapper.param_groups
    held = [param for group in groups for param in group['params']]
    assert {id(param) for param in held} == {
        id(p) for p in model.parameters() if p.requires_grad
    }
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    assert len(held) == len(names)
    assert all(name.startswith('architecture.') for name in names)
    assert not any(map(is_branch_key, names))


def test_losses_of_the_first_step_by_hand(trained):
    losses = dict(trained.first.losses)
    parts = {
        *(f'student.{name}' for name in trained.kind.own_losses),
        *(f'distill.{name}' for name in trained.kind.losses),
    }
    assert set(losses) == parts | {'loss'}
    teacher, student = trained.teacher, student_of(trained.teacher).train()
    data = teacher.data_preprocessor(copy.deepcopy(trained.first.batch), True)
    for network, mode in ((teacher, 'tensor'), (student, 'loss')):
        network.seen = {}
        for name, (source, _, _) in trained.kind.losses.items():
            network.get_submodule(source).register_forward_hook(
                lambda m, i, out, name=name, net=network: net.seen.update(
                    {name: out}
                )
            )
        torch.manual_seed(0)
        with torch.no_grad():
            outputs = network(**copy.deepcopy(data), mode=mode)
    for name, (_, _, by_hand) in trained.kind.losses.items():
        expected = by_hand(student.seen[name], teacher.seen[name]).item()
        assert expected > 0.01
        assert losses[f'distill.{name}'] == pytest.approx(expected, rel=1e-4)
    own = student.parse_losses(outputs)[1]
    for name in trained.kind.own_losses:
        assert losses[f'student.{name}'] == pytest.approx(
            own[name].item(), rel=1e-4
        )
    total = sum(losses[name] for name in parts if 'loss' in name)
    assert losses['loss'] == pytest.approx(total)


# the switch


def test_the_drop_shock_is_in_the_toolboxs_own_metric(trained):
    log, metric = scalars(trained), trained.kind.metric
    (switch,) = [s for s in log if f'switch/student/{metric}' in s]
    expected = {
        'teacher': evaluate(trained.runner, trained.teacher)[metric],
        'student': evaluate(trained.runner, student_of(trained.teacher))[
            metric
        ],
    }
    assert expected['teacher'] != expected['student']
    for network, value in expected.items():
        assert switch[f'switch/{network}/{metric}'] == pytest.approx(value)
    validations = [s for s in log if metric in s]
    assert len(validations) == 2
    assert all(
        s[f'teacher/{metric}'] == pytest.approx(expected['teacher'])
        for s in validations
    )


@pytest.mark.parametrize('name', KINDS)
def test_recalibration_on_training_images(name, tmp_path):
    """Those of the segmentor differ in size until they are padded."""
    kind = KINDS[name]
    write_images(tmp_path / 'data')
    teacher_cfg = kind.config(tmp_path / 'data', norm_eval=False)
    cfg = distilled(teacher_cfg, None, norm_stats='recalibrated')
    algorithm = build(cfg)
    algorithm.load_teacher(trained_teacher(teacher_cfg).state_dict())
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    stem = algorithm.architecture.backbone.bn1
    seen: list[torch.Tensor] = []
    stem.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    recalibrate(algorithm, loader, num_batches=2)
    assert [len(x) for x in seen] == [2, 2]
    by_hand = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(stem.running_mean, by_hand)
    assert algorithm.recalibrated


def test_a_student_that_finds_nothing_is_logged(tmp_path):
    """MMDetection has no mAP then; the teacher's is measured all the same."""
    write_images(tmp_path / 'data')
    cfg = detector(tmp_path / 'data')
    teacher = trained_teacher(cfg)
    path = str(tmp_path / 'teacher.pth')
    torch.save(dict(state_dict=teacher.state_dict()), path)
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = Runner.build_dataloader(cfg.val_dataloader, seed=0)
    best = {}
    for name, network in (
        ('teacher', teacher),
        ('student', student_of(teacher)),
    ):
        with torch.no_grad():
            samples = [s for raw in loader for s in network.val_step(raw)]
        best[name] = max(scores.max().item() for scores in answers(samples))
    assert best['student'] < best['teacher']
    cfg.model.test_cfg.score_thr = sum(best.values()) / 2
    cfg = distilled(cfg, None, teacher_ckpt=path)
    cfg.update(work_dir=str(tmp_path / 'work_dir'), experiment_name='nothing')
    cfg.train_cfg.max_epochs = 1
    runner = Runner.from_cfg(cfg)
    runner.train()
    log = (Path(runner.log_dir) / f'{runner.timestamp}.log').read_text()
    (line,) = re.findall(r'Drop shock at the switch, coco/bbox_mAP: .*', log)
    assert re.search(r'teacher 0(\.\d+)?, student nan$', line)
