# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device

from reducenet_mm.compat import setup_cpu_distributed

# Each process has one sample, x = 1 and x = 2, and the loss w * x with
# w = 1: the mean gradient is 1.5, so SGD with lr 0.1 ends at 0.85.
WORKER = """
import json, sys
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from reducenet_mm.compat import (
    leave_cpu_distributed, setup_cpu_distributed)

class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(()))
    def forward(self, x, mode='tensor'):
        return dict(loss=(self.w * x).sum())

cfg = Config(dict(
    env_cfg=dict(dist_cfg=dict(backend='nccl', timeout=77)),
    model_wrapper_cfg=dict(device_ids=[0], gradient_as_bucket_view=True),
))
setup_cpu_distributed(cfg, 'pytorch')
runner = Runner(
    model=Line(), work_dir=sys.argv[1], launcher='pytorch',
    train_dataloader=dict(
        dataset=[dict(x=torch.tensor(1.)), dict(x=torch.tensor(2.))],
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'), batch_size=1),
    train_cfg=dict(by_epoch=True, max_epochs=1),
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
    default_hooks=dict(checkpoint=None, logger=None),
    env_cfg=cfg.env_cfg,
    default_scope='mmengine', cfg=cfg, log_level='ERROR')
wrapper = runner.model
runner.train()
with open(f'{sys.argv[1]}/{dist.get_rank()}.json', 'w') as file:
    json.dump(dict(
        w=wrapper.module.w.item(), backend=dist.get_backend(),
        wrapper=type(wrapper).__name__, device_ids=wrapper.device_ids,
        view=wrapper.gradient_as_bucket_view,
        buffers=wrapper.broadcast_buffers), file)
del runner, wrapper
leave_cpu_distributed()
assert not dist.is_initialized()
"""


def test_two_processes_train_as_one(tmp_path):
    script = tmp_path / 'worker.py'
    script.write_text(WORKER)
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    run = subprocess.run(
        [*command, '--nproc-per-node=2', str(script), str(tmp_path)],
        env={
            **os.environ,
            'PYTHONPATH': str(Path(__file__).parents[2]),
            'CUDA_VISIBLE_DEVICES': '',
            'OMP_NUM_THREADS': '1',
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    for rank in (0, 1):
        result = json.loads((tmp_path / f'{rank}.json').read_text())
        assert result.pop('w') == pytest.approx(0.85)
        assert result == dict(
            backend='gloo',
            wrapper='MMDistributedDataParallel',
            device_ids=None,
            view=True,
            buffers=False,
        )


def test_without_launcher_nothing_changes():
    cfg = Config(dict(find_unused_parameters=True))
    setup_cpu_distributed(cfg, 'none')
    assert cfg.to_dict() == dict(find_unused_parameters=True)
    assert not dist.is_initialized()


@pytest.mark.skipif(
    get_device() != 'cpu', reason='needs a machine without accelerator'
)
def test_other_launchers_are_refused():
    cfg = Config()
    with pytest.raises(ValueError, match="got launcher='slurm'"):
        setup_cpu_distributed(cfg, 'slurm')
    assert 'model_wrapper_cfg' not in cfg
    assert not dist.is_initialized()
