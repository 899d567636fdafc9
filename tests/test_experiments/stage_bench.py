# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A pipeline whose trainings go by a script, for ``test_stages.py``.

The configs, the plan and the exports are real. The training tool is a small
program that keeps to the real one's command line and files and whose results
a script decides.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rich.console import Console

from reducenet_mm.experiments.cost import build_model
from reducenet_mm.experiments.pipeline.config import Pipeline, read_pipeline
from reducenet_mm.experiments.pipeline.plan import plan_runs
from reducenet_mm.experiments.pipeline.planned import Run
from reducenet_mm.experiments.pipeline.progress import Display
from reducenet_mm.experiments.pipeline.runs import Workshop
from reducenet_mm.experiments.pipeline.saturation import Until
from reducenet_mm.experiments.pipeline.stages import Course, run_stages

PRESET = Path('configs/pipelines/digits-until-saturation.py')
ARCHITECTURE = {'backbone.base_channels': 4, 'head.in_channels': 16}
METRIC = 'accuracy/top1'

TRAIN = """
import argparse, json, pathlib, re, shutil, sys
parser = argparse.ArgumentParser()
parser.add_argument('config')
parser.add_argument('--work-dir', type=pathlib.Path)
parser.add_argument('--resume')
parser.add_argument('--cfg-options', nargs='+')
args = parser.parse_args()
here = pathlib.Path(__file__).parent
name = args.work_dir.name
script = json.loads((here / 'script.json').read_text())[name]
start = 0
if args.resume:
    start = int(re.search(r'epoch_(\\d+)', args.resume)[1])
sessions = len(list(args.work_dir.glob('*/vis_data')))
log = args.work_dir / str(sessions) / 'vis_data' / 'scalars.json'
log.parent.mkdir(parents=True)
with open(here / 'calls.jsonl', 'a') as calls:
    options = dict(text.split('=', 1) for text in args.cfg_options)
    calls.write(json.dumps([name, start, options]) + '\\n')
for epoch, accuracy in list(enumerate(script, 1))[start:]:
    if accuracy is None and not sessions:
        sys.exit('out of memory')
    rows = [dict(loss=1, epoch=epoch, step=epoch),
            {'accuracy/top1': accuracy or 50.0, 'step': epoch}]
    with open(log, 'a') as file:
        file.writelines(json.dumps(row) + '\\n' for row in rows)
    shutil.copy(here / f'{name}.pth', args.work_dir / f'epoch_{epoch}.pth')
"""


def plan_preset(folder: Path) -> tuple[Pipeline, list[Run]]:
    """Return the preset, made narrow, and its planned runs."""
    options: dict[str, Any] = {'controls.1.restart_at': 'reuse'}
    for index in range(5):
        prefix = 'model.architecture.' if index else 'model.'
        for key, value in ARCHITECTURE.items():
            options[f'stages.{index}.cfg_options.{prefix}{key}'] = value
        options[f'stages.{index}.epochs'] = 4
    for index in range(2):
        for key, value in ARCHITECTURE.items():
            options[f'controls.{index}.cfg_options.model.{key}'] = value
    pipeline = read_pipeline(PRESET, options)
    return pipeline, plan_runs(pipeline, folder)


def make_bench(
    pipeline: Pipeline, runs: list[Run], tmp_path: Path
) -> SimpleNamespace:
    """``bench.run(script, **until)`` runs stages by a script."""
    tools = tmp_path / 'tools'
    tools.mkdir()
    (tools / 'train.py').write_text(TRAIN)
    runs = [replace(r, work_dir=tmp_path / 'runs' / r.name) for r in runs]
    stages = [run for run in runs if run.role != 'control']
    for seed, stage in enumerate(stages):
        torch.manual_seed(seed)
        model = build_model(stage.cfg)
        for name, value in model.state_dict().items():
            if 'lora' in name.split('.') and value.is_floating_point():
                value.uniform_(0.5, 1.0)  # as after training
        state = dict(state_dict=model.state_dict(), meta={})
        torch.save(state, tools / f'{stage.name}.pth')
    printed = io.StringIO()
    display = Display(Console(file=printed, width=400), runs, METRIC)
    workshop = Workshop(tools, display)

    def run(
        script: dict[str, Any], changes: dict | None = None, **until: Any
    ) -> tuple[Pipeline, Course]:
        (tools / 'script.json').write_text(json.dumps(script))
        rule = Until(**dict(dict(min_gain=0.5, patience=2), **until))
        changed = replace(pipeline, **{'until': rule, **(changes or {})})
        return changed, run_stages(changed, stages, tmp_path, workshop)

    def calls() -> list[Any]:
        lines = (tools / 'calls.jsonl').read_text().splitlines()
        return [json.loads(line) for line in lines]

    return SimpleNamespace(
        run=run,
        calls=calls,
        printed=printed,
        work_dir=tmp_path,
        controls=[run for run in runs if run.role == 'control'],
        stages={stage.name: stage for stage in stages},
    )
