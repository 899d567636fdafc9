# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A lora stage that tests share: its files, real Runners, its start."""

from __future__ import annotations

import copy
import functools
import inspect
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from reducenet_mm import set_scaler
from reducenet_mm.models.supernet import is_branch_key
from tests.conftest import randomise_norms

LEAF = Path('configs/reducenet/digits/reducenet8-w16-e4_digits_lora.py')
PAIR = 'kxk_1x1'
KINDS = {
    'pair': dict(kind=PAIR),
    'inner': dict(kind=PAIR, expansion=2, inner_norm=True),
    'outer': dict(kind=PAIR, outer_norm=True),
    'both': dict(kind=PAIR, inner_norm=True, outer_norm=True),
    'act': dict(kind=PAIR, inner_norm=True, act=True),
    'point': dict(kind='1x1'),
    'weight': dict(kind='weight', expansion=0.5),
}
WITH_NORM = ('inner', 'outer', 'both', 'act', 'point')
TAU = 4.0  # of distill/soft_labels.py


@functools.cache
def read(path: Path) -> Config:
    return Config.fromfile(path)


def run(cfg: Config, *hooks: Hook) -> Runner:
    """Train; without ``Runner.from_cfg``, which formats the config anew."""
    known = inspect.signature(Runner).parameters
    runner = Runner(**{k: v for k, v in cfg.items() if k in known})
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


class FirstLosses(Hook):
    """Keep the batch and the losses of the first step."""

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if runner.iter == 0:
            self.batch, self.losses = data_batch, outputs


class Stage:
    """Files that a lora stage starts from, and how to run it."""

    def __init__(self, folder: Path, block: str) -> None:
        self.folder = folder
        self.block = block
        self.teacher = self.network().eval()
        self.student = self.network().eval()
        set_scaler(self.student, 0.0)
        self.save(self.teacher.state_dict(), 'teacher.pth')
        student = self.student.state_dict()
        own = {k: v for k, v in student.items() if not is_branch_key(k)}
        self.save(own, 'student.pth')

    def network(self):
        cfg = copy.deepcopy(self.config(lora=None).model.architecture)
        return randomise_norms(MODELS.build(cfg))

    def save(self, state, name: str) -> None:
        torch.save(dict(state_dict=state), self.folder / name)

    def config(self, lora, **options) -> Config:
        cfg = copy.deepcopy(read(LEAF))
        cfg.model.architecture.backbone.lora = lora
        if lora and lora.get('act'):
            hook = dict(type='ScalerScheduleHook', gates=['lambda_relu'])
            cfg.custom_hooks = [*cfg.get('custom_hooks', []), hook]
        cfg.work_dir = str(self.folder / 'run')
        cfg.experiment_name = str(self.folder).replace('/', '_')
        cfg.merge_from_dict(
            {
                'model.architecture.backbone.block': self.block,
                'model.architecture.backbone.base_channels': 4,
                'model.architecture.backbone.expansion': 2,
                'model.architecture.head.in_channels': 16,
                'model.teacher_ckpt': str(self.folder / 'teacher.pth'),
                'model.student_init': str(self.folder / 'student.pth'),
                'train_dataloader.batch_size': 16,
                'train_dataloader.dataset.indices': 32,
                'val_dataloader.dataset.indices': 16,
                'train_cfg.max_epochs': 2,
                'train_cfg.val_interval': 2,
                'param_scheduler.periods': [2],
                'default_hooks.checkpoint.interval': 2,
                **options,
            }
        )
        return cfg

    def train(self, lora, **options) -> tuple[Runner, FirstLosses]:
        first = FirstLosses()
        return run(self.config(lora, **options), first), first


def losses_by_hand(stage: Stage, batch: dict, model) -> dict:
    """Those of the student as it starts, without any lora."""
    data = model.data_preprocessor(copy.deepcopy(batch), training=True)
    labels = torch.cat([sample.gt_label for sample in data['data_samples']])
    with torch.no_grad():
        teacher = stage.teacher(data['inputs'])
        student = stage.student(data['inputs'])
    soft = (teacher / TAU).softmax(1)
    ratio = soft.log() - (student / TAU).log_softmax(1)
    return {
        'student.loss': F.cross_entropy(student, labels),
        'distill.loss_kl': TAU**2 * (soft * ratio).sum(1).mean(),
    }


def differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    return not torch.equal(one, other)


def names_of_what_moved(stage: Stage, model) -> set[str]:
    """Keys whose values are not those of the teacher's or student's file."""
    teacher, student = stage.teacher.state_dict(), stage.student.state_dict()
    own = model.architecture.state_dict()
    start = {**student, **{k: v for k, v in teacher.items() if 'expand' in k}}
    return {k for k in own if k not in start or differ(own[k], start[k])}
