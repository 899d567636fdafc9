# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Time one training step: plain, MMRazor's distillation, and ours.

All three train every parameter of the same student on the same batch:

* ``plain``: the student alone, on labels;
* ``mmrazor``: MMRazor's ``SingleTeacherDistill`` with two networks, the
  teacher being the supernet at scaler 1 in an instance of its own;
* ``supernet``: ``SupernetDistill``, teacher and student in one instance.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from rich.console import Console
from rich.table import Table

from reducenet_mm.engine.launch import usage_errors
from reducenet_mm.engine.preflight import no_side_effects
from reducenet_mm.experiments.results import versions
from reducenet_mm.export.files import write_json
from reducenet_mm.export.plain_config import plain_model_cfg, supernet_cfg

VARIANTS = ('plain', 'mmrazor', 'supernet')
RATIOS = (
    ('supernet', 'mmrazor'),
    ('supernet', 'plain'),
    ('mmrazor', 'plain'),
)
WARM_UP = 3


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='benchmark_step.py',
        description='Time a training step of the plain student, of '
        "MMRazor's SingleTeacherDistill with two networks and of "
        'SupernetDistill with one, interleaved. Run it on an idle machine.',
    )
    parser.add_argument(
        '--config',
        help='a teacher or student config whose network is taken; default: '
        'a CIFAR ReduceNet of the options below',
    )
    parser.add_argument('--depth', type=int, default=20, help='6n+2, 18, 34')
    parser.add_argument('--width', type=int, help='base_channels')
    parser.add_argument('--expansion', type=int, default=1)
    parser.add_argument('--batch', type=int, default=64, help='images')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=3,
        default=(3, 32, 32),
        metavar=('C', 'H', 'W'),
    )
    parser.add_argument('--repeats', type=int, default=15, help='rounds')
    parser.add_argument(
        '--channels-last',
        action='store_true',
        help='channels_last weights, in all three',
    )
    parser.add_argument('--threads', type=int, help='of torch')
    parser.add_argument('--out', metavar='FILE', help='JSON file to write')
    args = parser.parse_args(argv)
    if args.repeats < 2 or args.batch < 2:
        parser.error('--repeats and --batch must be at least 2')
    return args


def network_config(args: argparse.Namespace) -> Config:
    """Return a config whose ``model`` is the supernet's classifier."""
    if args.config is not None:
        return Config.fromfile(args.config)
    width = args.width or (64 if args.depth in (18, 34) else 16)
    backbone = dict(
        type='ReduceNet',
        depth=args.depth,
        base_channels=width,
        expansion=args.expansion,
        in_channels=args.shape[0],
    )
    head = dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=width * (8 if args.depth in (18, 34) else 4),
        loss=dict(type='CrossEntropyLoss'),
    )
    model = dict(
        type='ImageClassifier',
        backbone=backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=head,
    )
    return Config(dict(model=model))


def distiller() -> dict[str, Any]:
    """Return soft labels on the logits, in MMRazor's terms."""
    recorder = dict(type='ModuleOutputs', source='head.fc')
    return dict(
        type='ConfigurableDistiller',
        student_recorders=dict(logits=dict(recorder)),
        teacher_recorders=dict(logits=dict(recorder)),
        distill_losses=dict(
            loss_kl=dict(type='KLDivergence', tau=4.0, reduction='batchmean')
        ),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(recorder='logits', from_student=True),
                preds_T=dict(recorder='logits', from_student=False),
            )
        ),
    )


def build_variants(cfg: Config) -> dict[str, BaseModel]:
    """Build the three, their teachers with the same weights."""
    teacher_cfg = dict(supernet_cfg(cfg), _scope_='mmpretrain')
    teacher_cfg['backbone'].update(scaler=1.0)
    plain_cfg = dict(plain_model_cfg(cfg), _scope_='mmpretrain')
    plain = MODELS.build(plain_cfg)
    mmrazor = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SingleTeacherDistill',
            architecture=plain_cfg,
            teacher=teacher_cfg,
            distiller=distiller(),
        )
    )
    supernet = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=teacher_cfg,
            reuse=dict(inherit='all', freeze=[]),
            norm_stats='live',
            distiller=distiller(),
        )
    )
    supernet.load_teacher(mmrazor.teacher.state_dict())
    return dict(plain=plain, mmrazor=mmrazor, supernet=supernet)


def training_step(
    model: BaseModel, inputs: torch.Tensor, samples: list[DataSample]
) -> Callable[[], None]:
    """Return one whole step: losses, backward, SGD on what trains."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9)
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        losses = model(inputs, samples, mode='loss')
        total, _ = model.parse_losses(losses)
        total.backward()
        optimizer.step()

    return step


def time_interleaved(
    steps: dict[str, Callable[[], None]], repeats: int
) -> dict[str, list[float]]:
    """Return the seconds of each step, A B C A B C ..., after a warm-up."""
    for _ in range(WARM_UP):
        for step in steps.values():
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return times


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method='inclusive')
    return dict(median=middle, quartile1=low, quartile3=high)


def summarize(times: dict[str, list[float]]) -> dict[str, Any]:
    """Return times in ms and ratios of steps of the same round."""
    ratios = {
        f'{one}/{other}': quartiles(
            [a / b for a, b in zip(times[one], times[other])]
        )
        for one, other in RATIOS
    }
    milliseconds = {
        name: quartiles([value * 1e3 for value in values])
        for name, values in times.items()
    }
    return dict(milliseconds=milliseconds, ratios=ratios)


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Build, time and summarize as the command line says."""
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    cfg = network_config(args)
    with no_side_effects():
        models = build_variants(cfg)
    inputs = torch.randn(args.batch, *args.shape)
    if args.channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        for model in models.values():
            model.to(memory_format=torch.channels_last)
    classes = models['plain'].head.num_classes
    samples = [
        DataSample().set_gt_label(i % classes) for i in range(args.batch)
    ]
    steps = {
        name: training_step(model, inputs, samples)
        for name, model in models.items()
    }
    times = time_interleaved(steps, args.repeats)
    settings = {k: v for k, v in vars(args).items() if k != 'out'}
    settings.update(threads=torch.get_num_threads(), precision='float32')
    return dict(settings=settings, versions=versions(), **summarize(times))


def show(result: dict[str, Any]) -> None:
    """Print times and ratios as a table."""
    table = Table(title='One training step')
    for heading in ('', 'median', 'first quartile', 'third quartile'):
        table.add_column(heading, justify='right' if heading else 'left')
    for name, value in result['milliseconds'].items():
        table.add_row(f'{name}, ms', *(f'{v:.1f}' for v in value.values()))
    table.add_section()
    for name, value in result['ratios'].items():
        table.add_row(name, *(f'{v:.3f}' for v in value.values()))
    Console().print(table)
    print(json.dumps(result['settings']))


def main(argv: Sequence[str] | None = None) -> None:
    """Time, print, write."""
    args = parse_args(argv)
    with usage_errors('benchmark_step.py'):
        result = benchmark(args)
    show(result)
    if args.out is not None:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, result)


if __name__ == '__main__':
    main()
