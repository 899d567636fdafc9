# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Annealing inside real Runners, on real digits."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import nn

from reducenet_mm import set_scaler
from reducenet_mm.models.checkpoint_views import split_state_dict
from reducenet_mm.models.supernet import hosts, is_branch_key
from tests.conftest import randomise_norms

CONFIGS = Path('configs/reducenet/digits')
EPOCH = 3  # iterations
SCHEDULE = dict(type='ScalerScheduleHook', begin=1, end=3)
VALUES = [1, 1, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0, 0]
"""Of ``SCHEDULE``, over 4 epochs."""
LORA = dict(kind='kxk_1x1', act=True)


class Watch(Hook):
    """Record gates, and what is computed of the branches, and when."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.gates: list[dict[str, float]] = []
        self.outside: list[dict[str, float]] = []
        self.losses: list[dict[str, float]] = []
        self.inputs: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []
        self.validated: list[float] = []
        self.computed: list[int] = []
        self.evaluated = 0

    def before_train(self, runner):
        self.network = getattr(runner.model, 'architecture', runner.model)
        for _, host in hosts(self.network):
            host.expand.register_forward_hook(self.count)

    def count(self, module, inputs, output):
        if torch.is_grad_enabled():
            self.computed[-1] += 1
        elif self.validating:
            self.evaluated += 1

    validating = False

    def before_val_epoch(self, runner):
        self.validating = True
        self.outside.append(gates(self.network))

    def after_val_epoch(self, runner, metrics=None):
        self.validating = False
        self.validated.append(metrics['accuracy/top1'])

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.gates.append(gates(self.network))
        self.computed.append(0)
        self.inputs.append(data_batch['inputs'])
        samples = data_batch['data_samples']
        self.labels.append(torch.cat([s.gt_label for s in samples]))

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.outside.append(gates(self.network))
        self.losses.append({k: float(v) for k, v in outputs.items()})


def gates(network: nn.Module) -> dict[str, float]:
    """Gates by the name of the block they are in and their kind."""
    return {
        f'{name} {module.gate}': module.scaler
        for name, module in network.named_modules()
        if getattr(module, 'gate', 'lora') != 'lora'
    }


def run(
    work_dir: Path,
    hooks: list[dict],
    network: str = 'student',
    backbone: dict | None = None,
    epochs: int = 4,
    **options: Any,
) -> tuple[Runner, Watch]:
    cfg = Config.fromfile(CONFIGS / f'reducenet8-w16-e4_digits_{network}.py')
    model = cfg.model.get('architecture', cfg.model)
    model.backbone.update(base_channels=4, expansion=2, **(backbone or {}))
    model.head.in_channels = 16
    cfg.work_dir = str(work_dir)
    cfg.custom_hooks = hooks
    if network == 'student':
        cfg.custom_hooks = [*hooks, dict(type='SupernetSwitchHook')]
        cfg.model.teacher_ckpt = str(save_teacher(model, work_dir))
    cfg.merge_from_dict(
        {
            'experiment_name': f'{work_dir.parent.name}_{work_dir.name}',
            'train_cfg.max_epochs': epochs,
            'train_cfg.val_interval': 1,
            'param_scheduler.periods': [epochs],
            'train_dataloader.batch_size': 8,
            'train_dataloader.dataset.indices': 8 * EPOCH,
            'val_dataloader.dataset.indices': 16,
            'default_hooks.logger.interval': 1,
            'default_hooks.checkpoint.interval': 9,
            'optim_wrapper.optimizer.lr': 0.01,
            **options,
        }
    )
    runner = Runner.from_cfg(cfg)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    return runner, watch


def save_teacher(cfg: dict, work_dir: Path) -> Path:
    """Random weights, norms included: their own branches matter."""
    torch.manual_seed(1)
    teacher = randomise_norms(MODELS.build(copy.deepcopy(cfg)))
    nn.init.normal_(teacher.head.fc.weight)
    work_dir.mkdir(exist_ok=True)
    torch.save(dict(state_dict=teacher.state_dict()), work_dir / 'teacher.pth')
    return work_dir / 'teacher.pth'


def teacher_of(runner: Runner) -> nn.Module:
    """The teacher as its own network, from the file of its stage."""
    cfg = copy.deepcopy(runner.cfg.model.architecture)
    teacher = MODELS.build(dict(cfg, _scope_='mmpretrain'))
    state = torch.load(runner.cfg.model.teacher_ckpt)['state_dict']
    teacher.load_state_dict(state)
    return teacher.eval()


def branch_state(network: nn.Module) -> dict[str, torch.Tensor]:
    state = network.state_dict()
    return {k: v.clone() for k, v in state.items() if is_branch_key(k)}


def scalars(runner: Runner, key: str) -> list[float]:
    path = Path(runner.log_dir) / 'vis_data' / 'scalars.json'
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line[key] for line in lines if key in line]


def log(runner: Runner) -> str:
    (path,) = Path(runner.log_dir).glob('*.log')
    return path.read_text()


def accuracy(model: nn.Module, runner: Runner) -> float:
    right = total = 0
    model.eval()
    for batch in runner.val_dataloader:
        data = runner.model.data_preprocessor(batch, False)
        with torch.no_grad():
            answers = model(data['inputs']).argmax(1).tolist()
        labels = [int(sample.gt_label) for sample in data['data_samples']]
        right += sum(a == b for a, b in zip(answers, labels, strict=True))
        total += len(labels)
    return 100 * right / total


def assert_teacher_is_fixed(runner: Runner, watch: Watch) -> None:
    """Bit for bit, its branches included, while the student has changed."""
    teacher, model = teacher_of(runner), runner.model
    kept = branch_state(teacher)
    for key, value in branch_state(model.architecture).items():
        assert torch.equal(value, kept[key]), key
    images = watch.inputs[0].float()
    with torch.no_grad():
        assert torch.equal(model.teacher(images), teacher(images))
        assert not torch.equal(model(images), teacher(images))


def assert_starts_as_teacher(runner: Runner, watch: Watch) -> None:
    """With kept statistics the first step's network is the teacher."""
    teacher, model = teacher_of(runner), runner.model
    data = model.data_preprocessor(dict(inputs=watch.inputs[0]), False)
    with torch.no_grad():
        loss = F.cross_entropy(teacher(data['inputs']), watch.labels[0])
    first, second = watch.losses[:2]
    assert first['student.loss'] == pytest.approx(float(loss), rel=1e-5)
    assert first['distill.loss_kl'] == pytest.approx(0, abs=1e-5)
    assert second['distill.loss_kl'] > 1e-5


def assert_measured_at_0(runner: Runner, watch: Watch) -> None:
    """At the switch and at the end, by networks built anew."""
    assert watch.evaluated == 0
    (measured,) = scalars(runner, 'switch/student/accuracy/top1')
    start = teacher_of(runner).state_dict()
    end = runner.model.architecture.state_dict()
    for state, shown in ((start, measured), (end, watch.validated[-1])):
        cfg = dict(runner.cfg.model.architecture, _scope_='mmpretrain')
        plain = MODELS.build(cfg)
        plain.load_state_dict(state)
        set_scaler(plain, 0.0)
        assert shown == pytest.approx(accuracy(plain, runner), abs=1e-4)
    assert 'validated and shipped is the student at scaler 0' in log(runner)


BLOCKS = {
    'postsum': (dict(block='postsum'), {'expand'}, 'live'),
    'parallel': (dict(block='parallel'), {'expand'}, 'inherited'),
    'sequential': (dict(block='sequential'), {'lambda_relu'}, 'live'),
    'lora': (
        dict(block='parallel', lora=LORA),
        {'expand', 'lambda_relu'},
        'inherited',
    ),
}


@pytest.mark.parametrize('block', BLOCKS)
def test_an_annealed_student(block, tmp_path):
    backbone, kinds, norm_stats = BLOCKS[block]
    runner, watch = run(
        tmp_path / 'run',
        [SCHEDULE],
        backbone=backbone,
        **{'model.norm_stats': norm_stats},
    )
    # the scaler, at every iteration and outside of them
    assert {name.split()[1] for name in watch.gates[0]} == kinds
    assert len(watch.gates[0]) == 3 * len(kinds)
    for now, expected in zip(watch.gates, VALUES, strict=True):
        assert list(now.values()) == pytest.approx([expected] * len(now))
    assert set(watch.gates[9].values()) == {0.0}
    assert all(set(now.values()) == {0.0} for now in watch.outside)
    assert scalars(runner, 'scaler') == pytest.approx(VALUES, abs=1e-4)
    assert 'scaler: 0.8333' in log(runner)
    # what is computed: by the student, while it has a branch
    branches = 0 if block == 'sequential' else 3
    assert watch.computed == [branches if v else 0 for v in VALUES]
    assert_teacher_is_fixed(runner, watch)
    if norm_stats == 'inherited':
        assert_starts_as_teacher(runner, watch)
    assert_measured_at_0(runner, watch)


def test_blocks_fade_one_after_the_other(tmp_path):
    schedule = dict(SCHEDULE, order='deepest_first')
    runner, watch = run(tmp_path / 'run', [schedule])
    third, second, first = (
        [now[f'backbone.layer{i}.0.conv1 expand'] for now in watch.gates]
        for i in (1, 2, 3)
    )
    assert first == [1, 1, 1, 1, 0.5, *[0] * 7]
    assert second == [*[1] * 6, 0.5, *[0] * 5]
    assert third == [*[1] * 8, 0.5, 0, 0, 0]
    assert watch.computed == [3] * 5 + [2] * 2 + [1] * 2 + [0] * 3
    mean = [(a + b + c) / 3 for a, b, c in zip(first, second, third)]
    assert scalars(runner, 'scaler') == pytest.approx(mean, abs=1e-4)
    turns = 'One after the other: backbone.layer3.0 3 to 5, backbone.layer2.0 '
    assert turns in log(runner)


def test_only_the_gates_that_are_named_move(tmp_path):
    _, watch = run(
        tmp_path / 'run',
        [dict(SCHEDULE, begin=0, end=1, gates=['lambda_relu'])],
        backbone=BLOCKS['lora'][0],
        epochs=2,
    )
    assert len(watch.gates[0]) == 6
    for name, value in watch.gates[0].items():
        assert value == (name.split()[1] == 'lambda_relu')


def test_two_schedules_are_logged_apart(tmp_path):
    early, late = dict(begin=0, end=1), dict(begin=1, end=2)
    runner, watch = run(
        tmp_path / 'run',
        [
            dict(SCHEDULE, **early, gates=['lambda_relu']),
            dict(SCHEDULE, **late, gates=['expand']),
        ],
        backbone=BLOCKS['lora'][0],
        epochs=3,
    )
    assert len(watch.gates) == 9
    for gate in ('lambda_relu', 'expand'):
        seen = [
            {v for name, v in now.items() if name.split()[1] == gate}
            for now in watch.gates
        ]
        expected = [value for (value,) in seen]  # one and the same
        logged = scalars(runner, f'scaler_{gate}')
        assert logged == pytest.approx(expected, abs=1e-4)
    assert scalars(runner, 'scaler_expand')[3] == 1
    assert scalars(runner, 'scaler_lambda_relu')[3] == 0
    assert scalars(runner, 'scaler') == []


def test_a_resumed_run_has_the_scaler_it_would_have_had(tmp_path):
    """Within an epoch; the weights are equal bit for bit."""
    options: dict[str, Any] = {
        'default_hooks.checkpoint.by_epoch': False,
        'default_hooks.checkpoint.interval': 5,
        'default_hooks.checkpoint.max_keep_ckpts': 9,
    }
    hooks = [SCHEDULE, dict(type='EMAHook', momentum=0.1)]
    whole, all_of_it = run(tmp_path / 'whole', hooks, **options)
    file = tmp_path / 'whole' / 'iter_5.pth'
    options.update(load_from=str(file), resume=True)
    rest, watch = run(tmp_path / 'rest', hooks, **options)
    assert watch.gates == all_of_it.gates[5:]
    assert watch.losses == all_of_it.losses[5:]
    ended = whole.model.state_dict()
    for key, value in rest.model.state_dict().items():
        assert torch.equal(value, ended[key]), key
    # the file in the midst of it holds both networks
    saved = torch.load(file, weights_only=False)
    for state in (saved['state_dict'], saved['ema_state_dict']):
        state = {k.removeprefix('module.'): v for k, v in state.items()}
        state.pop('steps', None)
        teacher, student = split_state_dict(state)
        for key, value in teacher_of(whole).state_dict().items():
            assert torch.equal(teacher[key], value), key
        assert not [key for key in student if is_branch_key(key)]


def test_a_plain_network_anneals_without_a_teacher(tmp_path):
    runner, watch = run(
        tmp_path / 'run', [SCHEDULE], 'teacher', dict(scaler=0.0)
    )
    values = [now['backbone.layer1.0.conv1 expand'] for now in watch.gates]
    assert values == pytest.approx(VALUES)
    assert watch.computed == [3 if v else 0 for v in VALUES]
    assert watch.evaluated == 0
    assert all(set(now.values()) == {0.0} for now in watch.outside)


def test_iterations_without_epochs(tmp_path):
    schedule = dict(SCHEDULE, end=5, by_epoch=False)
    train_cfg = dict(_delete_=True, by_epoch=False, max_iters=6)
    runner, watch = run(
        tmp_path / 'run',
        [schedule],
        param_scheduler=None,
        train_cfg=dict(train_cfg, val_interval=3),
        log_processor=dict(by_epoch=False),
    )
    values = [now['backbone.layer1.0.conv1 expand'] for now in watch.gates]
    assert values == [1, 1, 0.75, 0.5, 0.25, 0]


def test_too_long_a_schedule_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(ValueError, match='iteration 3 to 9 of .* of 6'):
        run(tmp_path / 'run', [SCHEDULE], epochs=2)
    (path,) = (tmp_path / 'run').glob('*/*.log')
    assert 'Drop shock' not in path.read_text()
