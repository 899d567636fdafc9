# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The model index in OpenMMLab's form, out of committed results.

A user makes the models known to MMPretrain in one line; it looks into its own
installation only, and the files are not in ours: ``ModelHub
.register_model_index('model-index.yml', config_prefix='.')``, with
``ModelHub`` of ``mmpretrain.apis.model``, in a checkout of this repository.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from reducenet_mm.datasets.wrapped import innermost

from .benchmarks.complexity import (
    COUNTS,
    Complexity,
    build_networks,
    input_shape,
    measure_complexity,
    total,
)

INDEX, METAFILE = 'model-index.yml', 'configs/reducenet/metafile.yml'
REPORTS = (
    'docs/results/digits/report.json',
    'docs/results/digits-graft/report.json',
    'docs/results/fashion-mnist/report.json',
)
SPEEDS = 'docs/results/inference'
"""Folder of what benchmark.py has measured: ``<pipeline>.json``."""

COLLECTION = 'ReduceNet'
TASK = 'Image Classification'
DATASETS = {'Digits': 'Digits (scikit-learn)', 'FashionMNIST': 'Fashion-MNIST'}
"""Type of a data set in a config -> its name."""

MEASURED = dict(teacher='teacher', student='deployed', control='plain')
"""Role of a network in a report -> its name in ``benchmark.py``."""

BACKENDS = dict(
    eager='PyTorch',
    channels_last='PyTorch, channels_last',
    compiled='PyTorch, torch.compile',
    onnx='ONNX Runtime',
)
"""Mode of ``benchmark.py`` -> its name in a metafile."""

HEADER = """\
# Written by `python tools/analysis_tools/write_metafile.py` from
# {sources}
# and the configs. Do not edit: make the results anew and run that again.
"""


def metafiles(root: Path) -> dict[Path, str]:
    """Return the content of both files by their paths.

    Args:
        root: The repository.

    Raises:
        FileNotFoundError: If a report or a config is not there.
        ValueError: If a report and a config contradict each other.
    """
    sources, models = [], []
    for name in REPORTS:
        sources.append(name)
        report = _read(root / name)
        speed_file = f'{SPEEDS}/{report["pipeline"]}.json'
        speed = None
        if (root / speed_file).is_file():
            sources.append(speed_file)
            speed = _read(root / speed_file)
        models += [
            _model(root, report, network, run, speed)
            for network, run in _listed(report)
        ]
    header = HEADER.format(sources=',\n# '.join(sources))
    content = dict(Collections=[_collection()], Models=models)
    return {
        root / METAFILE: header + _yaml(content),
        root / INDEX: header + _yaml(dict(Import=[METAFILE])),
    }


def _collection() -> dict[str, Any]:
    return dict(
        Name=COLLECTION,
        Metadata={
            'Architecture': ['Residual blocks', 'Branches that are removed'],
            'FLOPs Counted': COUNTS['multiply_adds'],
            'MMEngine FLOPs Counted': COUNTS['mmengine_flops'],
        },
        README='configs/reducenet/README.md',
    )


def _listed(
    report: Mapping[str, Any],
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield each network to list, and its run; a control is in one go."""
    runs = {run['name']: run for run in report['runs']}
    for network in report['networks']:
        run = runs[network['name']]
        in_one_go = len(run['periods']) == 1
        if network['role'] in MEASURED and (
            network['role'] != 'control' or in_one_go
        ):
            yield network, run


def _model(
    root: Path,
    report: Mapping[str, Any],
    network: Mapping[str, Any],
    run: Mapping[str, Any],
    speed: Mapping[str, Any] | None,
) -> dict[str, Any]:
    trained, cfg = _config(root, report, run)
    built, built_cfg = trained, cfg
    if network['role'] == 'student':  # exported, it is a network like this
        built, built_cfg = _config(root, report, _control(report))
    size = _size(built_cfg, network['role'])
    _check_size(size, report, network, built)
    metadata = {
        'Training Config': trained,
        'Training Data': _dataset(cfg),
        'Training Images': run['images_per_epoch'],
        'Training Techniques': list(_techniques(cfg)),
        'Training Command': run['command'],
        'Epochs': run['epochs'],
        'Epochs of All Stages': network['training_epochs'],
        'Batch Size': cfg.train_dataloader.batch_size,
        'Seed': report['seed'],
        'FLOPs': size.multiply_adds,
        'MMEngine FLOPs': size.mmengine_flops,
        'Parameters': size.params,
    }
    if speed is not None:
        rows = _inference_times(speed, MEASURED[network['role']])
        metadata['inference time (ms/im)'] = rows
    result = dict(
        Dataset=_dataset(cfg),
        Task=TASK,
        Metrics={'Top 1 Accuracy': round(network['accuracy'], 2)},
    )
    return {
        'Name': Path(trained).stem,
        'In Collection': COLLECTION,
        'Config': built,
        'Metadata': metadata,
        'Results': [result],
    }


def _config(
    root: Path, report: Mapping[str, Any], run: Mapping[str, Any]
) -> tuple[str, Config]:
    """Return the path in the repository and the content of a run's config."""
    path = posixpath.normpath(run['config'])
    if not (root / path).is_file():
        raise FileNotFoundError(
            f'the report of {report["pipeline"]} names the config {path!r}, '
            f'which is not in {str(root)!r}. Make the report anew with '
            f'`{report["command"]}`.'
        )
    return path, Config.fromfile(root / path)


def _control(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the run of a control: a plain network of the student's shape."""
    for network, run in _listed(report):
        if network['role'] == 'control':
            return run
    raise ValueError(
        f'the report of {report["pipeline"]} has no control in one go, so '
        'that no config is known of the plain network that its student is. '
        'Give the pipeline one in `controls` and make the report anew with '
        f'`{report["command"]}`.'
    )


def _size(cfg: Config, role: str) -> Complexity:
    """Count what the report calls a network of this role."""
    networks = build_networks(cfg)
    network = networks['teacher' if role == 'teacher' else 'student']
    return total(measure_complexity(network, input_shape(cfg, network)))


def _check_size(
    size: Complexity,
    report: Mapping[str, Any],
    network: Mapping[str, Any],
    config: str,
) -> None:
    for key in ('params', 'multiply_adds'):
        if getattr(size, key) != network[key]:
            raise ValueError(
                f'the report of {report["pipeline"]} says {key}='
                f'{network[key]:,} of {network["name"]!r}, its config '
                f'{config!r} has {getattr(size, key):,}. Make the report '
                f'anew with `{report["command"]}`.'
            )


def _techniques(cfg: Config) -> Iterator[str]:
    """Yield what a config trains with, in OpenMMLab's words."""
    optimizer = cfg.optim_wrapper.optimizer
    momentum = ' with Momentum' if optimizer.get('momentum') else ''
    yield f'{optimizer.type}{momentum}'
    if optimizer.get('weight_decay'):
        yield 'Weight Decay'
    if 'Cosine' in cfg.param_scheduler.type:
        yield 'Cosine Annealing'
    if 'architecture' in cfg.model:
        yield f'Weights of the Supernet without Branches ({cfg.model.type})'
        if cfg.model.get('distiller') is not None:
            for loss in cfg.model.distiller.distill_losses.values():
                yield f'Knowledge Distillation ({loss.type})'


def _dataset(cfg: Config) -> str:
    inner = innermost(cfg.train_dataloader.dataset)
    kinds = dict.fromkeys(dataset.type for dataset in inner)
    return ', '.join(DATASETS.get(kind, kind) for kind in kinds)


def _inference_times(
    speed: Mapping[str, Any], name: str
) -> list[dict[str, Any]]:
    """Return the rows of one network that ``benchmark.py`` has timed."""
    settings = speed['settings']
    _, height, width = settings['input_shape']
    hardware = f'{settings["device"]}, {settings["threads"]} threads'
    return [
        {
            'value': round(1e3 / one['images_per_second'][name]['median'], 4),
            'hardware': hardware,
            'backend': BACKENDS[mode],
            'batch size': int(batch),
            'mode': 'FP32',
            'resolution': [height, width],
        }
        for mode, batches in speed['results'].items()
        for batch, one in batches.items()
    ]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f'{str(path)!r} is not there. Run the tool in a checkout of the '
            'repository, after the pipeline that writes this file.'
        )
    return json.loads(path.read_text(encoding='utf-8'))


def _yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=79)
