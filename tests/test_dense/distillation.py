# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A detector's and a segmentor's student, each trained in a real Runner."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn

from reducenet_mm import set_scaler
from reducenet_mm.models.supernet import hosts
from tests.conftest import randomise_norms

from .configs import compare, detector, distilled, segmentor
from .images import write_images

WEIGHT = 3.0


def l2(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of features of length 1, a mean over images."""
    unit = [
        f.flatten(1) / f.flatten(1).norm(dim=1, keepdim=True)
        for f in (student, teacher)
    ]
    return WEIGHT * (unit[0] - unit[1]).square().sum(1).mean()


def pearson(
    student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]
) -> Tensor:
    """1 - r, the correlation over images and pixels of each channel."""
    total = torch.zeros(())
    for pair in zip(student, teacher, strict=True):
        rows = [f.transpose(0, 1).flatten(1) for f in pair]
        rows = [f - f.mean(1, keepdim=True) for f in rows]
        cosine = torch.cosine_similarity(*rows, dim=1)
        count = rows[0].shape[1]  # MMRazor's variances divide by one less
        total = total + (1 - cosine).mean() * (count - 1) / count
    return WEIGHT * total


def channel_wise(student: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence of each channel's softmax over its pixels."""
    logs = [f.flatten(2).log_softmax(2) for f in (teacher, student)]
    return WEIGHT * (logs[0].exp() * (logs[0] - logs[1])).sum(2).mean()


@dataclass(frozen=True)
class Kind:
    """A kind of dense network.

    Attributes:
        config: Data folder -> its config.
        losses: Name of a loss -> source, MMRazor's name, the loss by hand.
        own_losses: What the architecture calls its losses.
        metric: What its evaluator calls its main metric.
    """

    config: Callable[..., Config]
    losses: dict[str, tuple[str, str, Callable]]
    own_losses: set[str]
    metric: str

    def distiller(self) -> dict:
        return compare(
            **{
                name: (source, dict(type=kind, loss_weight=WEIGHT))
                for name, (source, kind, _) in self.losses.items()
            }
        )


STAGE = ('backbone.layer3', 'L2Loss', l2)
KINDS = dict(
    detector=Kind(
        detector,
        dict(loss_stage=STAGE, loss_fpn=('neck', 'PKDLoss', pearson)),
        {'loss_cls', 'loss_bbox'},
        'coco/bbox_mAP',
    ),
    segmentor=Kind(
        segmentor,
        dict(
            loss_stage=STAGE,
            loss_cwd=(
                'decode_head.conv_seg',
                'ChannelWiseDivergence',
                channel_wise,
            ),
        ),
        {'decode.loss_ce', 'decode.acc_seg', 'aux.loss_ce', 'aux.acc_seg'},
        'mIoU',
    ),
)


def build(cfg: Config) -> Any:
    """Build the model of a config as a Runner does."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(copy.deepcopy(cfg.model))


def trained_teacher(cfg: Config) -> Any:
    """A teacher whose branches and norms hold nothing trivial."""
    torch.manual_seed(1)
    model = build(cfg)
    model.init_weights()
    randomise_norms(model)
    for _, host in hosts(model):
        assert host.expand.norm2.weight.all()
    return model.eval()


class FirstStep(Hook):
    """Keep the state and the batch of the first step, and its losses."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 0:
            self.state = copy.deepcopy(runner.model.state_dict())
            self.batch = copy.deepcopy(data_batch)

    def after_train_iter(self, runner, batch_idx, data_batch, outputs=None):
        if runner.iter == 0:
            self.losses = {k: v.item() for k, v in outputs.items()}


@dataclass
class Trained:
    """A finished training and what it started from."""

    kind: Kind
    root: Path
    teacher_cfg: Config
    teacher: nn.Module
    runner: Runner
    first: FirstStep


def train(name: str, root: Path, **settings: Any) -> Trained:
    """Train the student of a random teacher for four steps."""
    kind = KINDS[name]
    write_images(root / 'data')
    teacher_cfg = kind.config(root / 'data')
    teacher = trained_teacher(teacher_cfg)
    path = root / 'teacher.pth'
    torch.save(dict(state_dict=teacher.state_dict()), path)
    settings = dict(
        teacher_ckpt=str(path),
        reuse=dict(freeze=['stem', r're:backbone\.layer1\..*']),
        **settings,
    )
    cfg = distilled(teacher_cfg, kind.distiller(), **settings)
    cfg.work_dir = str(root / 'work_dir')
    cfg.experiment_name = f'{name}_{root.name}'
    runner = Runner.from_cfg(cfg)
    first = FirstStep()
    runner.register_hook(first)
    runner.train()
    return Trained(kind, root, teacher_cfg, teacher, runner, first)


def student_of(teacher: nn.Module) -> Any:
    """An independent copy with its branches off."""
    student = copy.deepcopy(teacher)
    set_scaler(student, 0.0)
    return student


def evaluate(runner: Runner, network: Any) -> dict[str, float]:
    """Independent of the hook: by hand, batch by batch."""
    network.eval()
    for raw in runner.val_dataloader:
        with torch.no_grad():
            outputs = network.val_step(copy.deepcopy(raw))
        runner.val_evaluator.process(outputs, raw)
    return runner.val_evaluator.evaluate(len(runner.val_dataloader.dataset))


def answers(samples: list[Any]) -> list[Tensor]:
    """Scores of the boxes found, or of each class at each pixel."""
    dicts = [s if isinstance(s, dict) else s.to_dict() for s in samples]
    return [
        sample['pred_instances']['scores']
        if 'pred_instances' in sample
        else sample['seg_logits']['data']
        for sample in dicts
    ]


def stock(trained: Trained) -> Any:
    """The toolbox's own network without branches, as it is initialised."""
    cfg = copy.deepcopy(trained.teacher_cfg)
    cfg.model.backbone = cfg.model.backbone.backbone
    return build(cfg)
