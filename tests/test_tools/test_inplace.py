# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""An in-place run through every tool, alone and in two processes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmpretrain.registry import DATASETS, MODELS

from reducenet_mm import set_scaler
from reducenet_mm.models.checkpoint_views import split_state_dict
from tests.test_tools.forked import run_forked, run_two_ranks

TOOLS = Path(__file__).parents[2] / 'tools'
CONFIGS = TOOLS.parent / 'configs' / 'reducenet' / 'digits'
INPLACE = CONFIGS / 'reducenet8-w16-e4_digits_inplace-sandwich.py'

DIST_CONFIG = f"""
_base_ = {str(INPLACE)!r}
custom_imports = dict(imports=['reducenet_mm', 'report'])
custom_hooks = [dict(type='InplaceHook'), dict(type='ReportHook')]
"""

REPORT_HOOK = """
import hashlib
import json

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


def digest(tensors):
    bits = hashlib.sha256()
    for tensor in tensors:
        bits.update(tensor.detach().numpy().tobytes())
    return bits.hexdigest()


@HOOKS.register_module()
class ReportHook(Hook):
    '''Write what this process holds, and what it has drawn.'''

    def before_train(self, runner):
        self.first = digest(runner.model.parameters())
        self.scalers = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.scalers += runner.model.module.sandwich_scalers()

    def after_train(self, runner):
        model = runner.model
        content = dict(
            first=self.first,
            last=digest(model.parameters()),
            statistics=digest(model.module.teacher_overlay.buffers()),
            scalers=self.scalers,
            unused=model.find_unused_parameters,
        )
        with open(f'{runner.work_dir}/rank{get_rank()}.json', 'w') as file:
            json.dump(content, file)
"""


@pytest.mark.skipif(get_device() != 'cpu', reason='gloo is for CPUs')
def test_two_processes_train_one_network_in_place(
    tmp_path: Path,
    free_port: str,
    config: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / 'report.py').write_text(REPORT_HOOK)
    (tmp_path / 'config.py').write_text(DIST_CONFIG)
    work_dir = tmp_path / 'run'
    monkeypatch.syspath_prepend(tmp_path)  # of the hook
    run_two_ranks(
        *('train', tmp_path / 'config.py', '--work-dir', work_dir),
        *('--cfg-options', *config.student_model, *config.schedule(1)),
        'train_dataloader.batch_size=64',
        port=free_port,
    )
    first, second = (
        json.loads((work_dir / f'rank{rank}.json').read_text())
        for rank in (0, 1)
    )
    assert first['first'] == second['first']
    assert first['last'] == second['last'] != first['first']
    assert first['scalers'] == second['scalers']
    assert len(set(first['scalers'])) == 8  # 499 images, 64 a step
    assert first['statistics'] != second['statistics']  # of own images
    # So DDP ends a run in which a parameter has had no gradient in a step.
    assert first['unused'] is False


@pytest.fixture(scope='module')
def run(
    tmp_path_factory: pytest.TempPathFactory, config: SimpleNamespace
) -> Path:
    """The checkpoint of an in-place run of two epochs."""
    work_dir = tmp_path_factory.mktemp('inplace')
    options = [*config.student_model, *config.schedule(2)]
    run_forked(
        *('train', INPLACE, '--work-dir', work_dir),
        *('--cfg-options', *options),
    )
    return work_dir / 'epoch_2.pth'


def classifier(config: SimpleNamespace, scaler: float) -> torch.nn.Module:
    cfg = Config.fromfile(config.teacher)
    cfg.merge_from_dict(config.narrow)
    model = dict(cfg.model, data_preprocessor=cfg.data_preprocessor)
    network = MODELS.build(model).eval()
    set_scaler(network, scaler)
    return network


def accuracy(run: Path, config: SimpleNamespace, scaler: float) -> float:
    """On the test set, by a network which has only this to itself."""
    model = classifier(config, scaler)
    state = torch.load(run)['state_dict']
    own = dict(model.state_dict())
    for prefix in ('architecture.', 'teacher_overlay.')[: 1 + int(scaler)]:
        own |= {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }
    model.load_state_dict(own)
    cfg = Config.fromfile(config.teacher)
    items = list(DATASETS.build(cfg.test_dataloader.dataset))
    images = torch.stack([item['inputs'] for item in items])
    labels = torch.cat([item['data_samples'].gt_label for item in items])
    with torch.no_grad():
        scores = model(model.data_preprocessor(dict(inputs=images))['inputs'])
    return 100 * (scores.argmax(1) == labels).double().mean().item()


def test_both_networks_are_tested_under_either_config(
    run, config, load_tool, tmp_path
):
    expected = {scaler: accuracy(run, config, scaler) for scaler in (0, 1)}
    assert expected[0] != expected[1]  # or a mix-up would not show
    out = tmp_path / 'metrics.json'
    for path, scaler, options in (
        (str(INPLACE), 0, config.student_model),
        (str(INPLACE), 1, config.student_model),
        (config.teacher, 1, config.teacher_model),
    ):
        load_tool('test').main(
            [path, str(run), '--scaler', str(scaler)]
            + ['--work-dir', str(tmp_path / 'work'), '--out', str(out)]
            + ['--cfg-options', *options]
        )
        measured = json.loads(out.read_text())['accuracy/top1']
        assert measured == pytest.approx(expected[scaler])


def test_the_student_is_exported(run, config, load_tool, tmp_path):
    load_tool('export').main(
        [str(INPLACE), str(run), '--out', str(tmp_path)]
        + ['--cfg-options', *config.student_model]
    )
    saved = torch.load(tmp_path / 'student.pth', weights_only=True)
    first = saved['meta']['parity']['comparisons'][0]
    assert max(first['differences'].values()) < 1e-10
    trained = torch.load(run)['state_dict']
    for name, value in saved['state_dict'].items():
        assert torch.equal(value, trained[f'architecture.{name}']), name


def test_a_following_stage_takes_up_student_and_teacher(run, config):
    cfg = Config.fromfile(config.student)
    sizes = {f'architecture.{k[6:]}': v for k, v in config.narrow.items()}
    cfg.merge_from_dict({f'model.{key}': v for key, v in sizes.items()})
    model = dict(
        cfg.model,
        student_init=str(run),
        teacher_ckpt=None,
        data_preprocessor=cfg.data_preprocessor,
    )
    algorithm = MODELS.build(model)
    algorithm.init_weights()
    teacher, student = split_state_dict(torch.load(run)['state_dict'])
    own = algorithm.architecture.state_dict()
    assert all(torch.equal(own[k], v) for k, v in student.items())
    algorithm.load_teacher(teacher)
    images = torch.randn(4, 1, 8, 8)
    expected = classifier(config, 1.0)
    expected.load_state_dict(teacher)
    assert torch.equal(algorithm.teacher(images), expected(images))


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('ramb=0.3', r"unknown key model\.ramb=0\.3\. Did you mean 'ramp'"),
        ('ramp=3', r'model\.ramp must be from 0 to 1.* got 3'),
        ('sandwich=-1', r'model\.sandwich must be an integer >= 0'),
        ('norm_stats=live', r'InplaceDistill takes: .*sandwich'),
        (
            'architecture.backbone.with_cp=True',
            r'a ReduceNet in model\.architecture has with_cp=True',
        ),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(
    option, message, load_tool, tmp_path, capsys
):
    work_dir = tmp_path / 'run'
    with pytest.raises(SystemExit) as stopped:
        load_tool('train').main(
            [str(INPLACE), '--work-dir', str(work_dir)]
            + ['--cfg-options', f'model.{option}']
        )
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert re.search(message, error)
    assert not work_dir.exists()
