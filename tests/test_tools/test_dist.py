# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The shell scripts: several processes, on CPUs if there is no GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.device import get_device
from mmpretrain.registry import DATASETS

from reducenet_mm.engine import preflight
from reducenet_mm.engine.hooks.supernet_switch_hook import recalibrate
from tests.test_tools.forked import run_two_ranks

TOOLS = Path(__file__).parents[2] / 'tools'

REPORT_HOOK = """
import hashlib
import json

import torch
from mmengine.dist import get_backend, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


def digest(tensors):
    bits = hashlib.sha256()
    for tensor in tensors:
        bits.update(tensor.detach().numpy().tobytes())
    return bits.hexdigest()


@HOOKS.register_module()
class ReportHook(Hook):
    '''Write what this process holds before and after the training.

    Before it, but after the switch from teacher to student.
    '''

    priority = 'LOWEST'

    def before_train(self, runner):
        self.first = digest(runner.model.parameters())
        model = runner.model.module
        self.switched = {
            name: value.tolist()
            for name, value in model.state_dict().items()
            if name.startswith('architecture.') and 'running_' in name
            if '.expand.' not in name
        }
        self.order = []
        if runner.iter == 0:  # else the sampler would no longer skip
            self.order += map(int, runner.train_dataloader.sampler)

    def after_train(self, runner):
        with open(f'{runner.work_dir}/rank{get_rank()}.json', 'w') as file:
            json.dump(
                dict(
                    first=self.first,
                    switched=self.switched,
                    order=self.order,
                    last=digest(runner.model.parameters()),
                    buffers=digest(runner.model.buffers()),
                    images=list(runner.train_dataloader.sampler),
                    world_size=get_world_size(),
                    backend=get_backend(),
                    threads=torch.get_num_threads(),
                ),
                file,
            )
"""


@pytest.fixture
def reporting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Make a config which also reports what every process holds."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'report_hook.py').write_text(REPORT_HOOK)

    def make(base: str, more: str = '') -> Path:
        config = tmp_path / f'reporting_{Path(base).name}'
        config.write_text(
            textwrap.dedent(f"""
            _base_ = {base!r}
            custom_imports = dict(imports=['reducenet_mm', 'report_hook'])
            custom_hooks = [
                *_base_.get('custom_hooks', []),
                dict(type='ReportHook'),
            ]
            """)
            + more
        )
        return config

    return make


@pytest.mark.skipif(get_device() != 'cpu', reason='gloo is for CPUs')
def test_two_processes_end_with_identical_weights(
    tmp_path, reporting, process, free_port, config
):
    work_dir = tmp_path / 'run'
    options = config.schedule(1) + config.teacher_model
    done = process(
        *(TOOLS / 'dist_train.sh', reporting(config.teacher), 2),
        *('--work-dir', work_dir, '--cfg-options', *options),
        PORT=free_port,
        PYTHONPATH=str(tmp_path),
        OMP_NUM_THREADS='',
    )
    assert done.returncode == 0, done.stderr
    first, second = reports(work_dir)
    check_equal(first, second)
    cores = len(os.sched_getaffinity(0))
    assert first['threads'] == max(1, cores // 2)
    assert (work_dir / 'epoch_1.pth').is_file()


@pytest.mark.skipif(get_device() != 'cpu', reason='gloo is for CPUs')
def test_two_processes_distil_one_student(
    tmp_path, reporting, free_port, config, teacher_run
):
    run_two_ranks(
        *('train', reporting(config.student), '--work-dir', tmp_path / 'run'),
        *('--cfg-options', *config.schedule(1), *config.student_model),
        f'model.teacher_ckpt={teacher_run}',
        port=free_port,
    )
    check_equal(*reports(tmp_path / 'run'))


@pytest.mark.skipif(get_device() != 'cpu', reason='gloo is for CPUs')
def test_two_processes_resume_within_an_epoch(
    tmp_path, reporting, free_port, config, teacher_run
):
    """Each goes on with its own images and statistics of batches."""

    def train(name: str, *options: str) -> list[dict]:
        run_two_ranks(
            *('train', student, '--work-dir', tmp_path / name, *options),
            *('--cfg-options', *config.schedule(2), *config.student_model),
            f'model.teacher_ckpt={teacher_run}',
            'train_dataloader.batch_size=32',  # 16 iterations an epoch
            'default_hooks.checkpoint.by_epoch=False',
            'default_hooks.checkpoint.interval=10',
            'default_hooks.checkpoint.max_keep_ckpts=-1',
            port=free_port,
        )
        return reports(tmp_path / name)

    student = reporting(config.student)
    whole = train('whole')
    for interrupted in ('iter_10.pth', 'iter_20.pth'):
        name = interrupted[:-4]
        (tmp_path / name).mkdir()
        shutil.copy(tmp_path / 'whole' / interrupted, tmp_path / name)
        for rank, end in enumerate(train(name, '--resume')):
            assert end['last'] == whole[rank]['last'], (name, rank)
            assert end['first'] != whole[rank]['first']


def reports(work_dir: Path) -> list[dict]:
    """Return what each of two processes has written."""
    files = [work_dir / f'rank{rank}.json' for rank in (0, 1)]
    return [json.loads(file.read_text()) for file in files]


def check_equal(first: dict, second: dict) -> None:
    assert first['first'] == second['first']
    assert first['last'] == second['last']
    assert first['last'] != first['first']
    # Each saw images of its own, so equal weights are an average's doing.
    assert set(first['images']).isdisjoint(second['images'][:-1])
    assert first['buffers'] != second['buffers']
    assert first['world_size'] == 2
    assert first['backend'] == 'gloo'


PLAIN_IMAGES = """
train_dataloader = dict(dataset=dict(pipeline=[dict(type='PackInputs')]))
"""


@pytest.mark.skipif(get_device() != 'cpu', reason='gloo is for CPUs')
def test_two_processes_recalibrate_as_one_does(
    tmp_path, reporting, free_port, config, teacher_run
):
    work_dir = tmp_path / 'run'
    config_file = reporting(config.student, PLAIN_IMAGES)
    options = [
        *config.schedule(1),
        *config.student_model,
        f'model.teacher_ckpt={teacher_run}',
        'model.norm_stats=recalibrated',
        # With kept statistics the live ones' learning rate diverges.
        'optim_wrapper.optimizer.lr=0.005',
    ]
    run_two_ranks(
        *('train', config_file, '--work-dir', work_dir),
        *('--cfg-options', *options),
        port=free_port,
    )
    first, second = reports(work_dir)
    assert first['switched']
    assert first['switched'] == second['switched']
    assert first['order'] != second['order']

    dumped = work_dir / config_file.name
    cfg = Config.fromfile(dumped, import_custom_modules=False)
    both = recalibrated_alone(cfg, [first['order'], second['order']])
    for name, value in first['switched'].items():
        torch.testing.assert_close(torch.tensor(value), both[name])
    # So it is an average: one process's images alone give others.
    one = recalibrated_alone(cfg, [first['order']])
    assert not any(
        torch.allclose(torch.tensor(value), one[name])
        for name, value in first['switched'].items()
    )


def recalibrated_alone(
    cfg: Config, orders: list[list[int]]
) -> dict[str, torch.Tensor]:
    """Statistics that one process computes from the batches of several."""
    model = preflight.check_config(cfg, [], init_weights=True)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    size = cfg.train_dataloader.batch_size
    batches = [
        default_collate([dataset[i] for i in order[start : start + size]])
        for order in orders
        for start in range(0, len(order), size)
    ]
    recalibrate(model, batches, len(batches))
    return model.state_dict()


@pytest.mark.skipif(get_device() != 'cpu', reason='gloo is for CPUs')
@pytest.mark.parametrize(
    ('network', 'argv'),
    [('student', ['--scaler', '1']), ('teacher', ['--scaler', '0', '--tta'])],
)
def test_two_processes_test_as_one_does(
    tmp_path,
    process,
    load_tool,
    free_port,
    config,
    student_run,
    network,
    argv,
):
    """The second from a distillation's checkpoint, in two wrappers."""
    checkpoint = student_run / 'epoch_2.pth'
    alone, shared = tmp_path / 'alone.json', tmp_path / 'shared.json'
    argv = [*argv, '--work-dir', str(tmp_path)]
    path = getattr(config, network)
    options = ['--cfg-options', *getattr(config, f'{network}_model')]
    load_tool('test').main(
        [path, str(checkpoint), *argv, '--out', str(alone)] + options
    )
    done = process(
        *(TOOLS / 'dist_test.sh', path, checkpoint, 2, *argv),
        *('--out', shared, *options),
        PORT=free_port,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(shared.read_text()) == json.loads(alone.read_text())


@pytest.fixture
def srun(tmp_path: Path) -> SimpleNamespace:
    """A stand-in for Slurm's srun that records its arguments."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    script = folder / 'srun'
    script.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    script.chmod(0o755)
    return SimpleNamespace(path=f'{folder}{os.pathsep}{os.environ["PATH"]}')


@pytest.mark.parametrize(
    ('script', 'fourth', 'tool_arguments'),
    [
        ('slurm_train.sh', 'a dir', ['train.py', 'c.py', '--work-dir=a dir']),
        ('slurm_test.sh', 'x.pth', ['test.py', 'c.py', 'x.pth']),
    ],
)
def test_slurm_scripts_hand_everything_to_srun(
    process, srun, script, fourth, tool_arguments
):
    done = process(
        *(TOOLS / script, 'part', 'job', 'c.py', fourth, '--amp'),
        PATH=srun.path,
        GPUS='4',
        GPUS_PER_NODE='2',
        SRUN_ARGS='--mem 8G',
    )
    assert done.returncode == 0, done.stderr
    given = done.stdout.splitlines()
    tool_arguments[0] = str(TOOLS / tool_arguments[0])
    assert given == [
        *('-p', 'part', '--job-name=job', '--gres=gpu:2', '--ntasks=4'),
        *('--ntasks-per-node=2', '--cpus-per-task=5', '--kill-on-bad-exit=1'),
        *('--mem', '8G', 'python', '-u', *tool_arguments),
        *('--amp', '--launcher', 'slurm'),
    ]


@pytest.mark.parametrize(
    'script',
    ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'],
)
def test_scripts_are_executable_and_say_how_to_call_them(process, script):
    done = process(TOOLS / script, 'config.py')
    assert done.returncode == 2
    assert done.stderr.startswith(f'usage: {script} ')
    assert 'CONFIG' in done.stderr


@pytest.mark.parametrize('number', ['abc', '0', '--work-dir'])
def test_a_wrong_number_of_processes_is_refused(number: str) -> None:
    done = subprocess.run(
        ['bash', str(TOOLS / 'dist_train.sh'), 'config.py', number, 'x'],
        text=True,
        capture_output=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"dist_train.sh: GPUS must be a whole number > 0, got '{number}'\n"
    )
