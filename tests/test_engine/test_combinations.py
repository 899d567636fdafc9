# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Block x schedule x weight reuse x distillation, in real Runners.

All pairs of settings by default; all combinations, for some minutes, with
``pytest tests/test_engine/test_combinations.py --full-matrix``.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmrazor.registry import MODELS
from torch import nn
from torch.utils.data import DataLoader

from reducenet_mm.models.backbones.reduce_blocks import BLOCKS
from reducenet_mm.models.layers.sequential import STUDENT_CONVS
from reducenet_mm.models.supernet import hosts
from tests.conftest import randomise_norms
from tests.pairwise import combinations, pairwise
from tests.test_models.by_hand import BY_HAND, outputs
from tests.test_models.distillation import (
    assert_teacher_is,
    batch,
    teacher_copy,
)
from tests.test_models.presets import (
    BASES,
    DISTILL,
    REUSE,
    distiller,
    preset,
    reuse,
)

HOSTS = {
    'postsum': dict(block='postsum'),
    'postsum_lora': dict(block='postsum', lora=dict(kind='1x1')),
    'postsum_lora_act': dict(
        block='postsum',
        lora=dict(kind='kxk_1x1', expansion=2, inner_norm=True, act=True),
    ),
    'parallel': dict(block='parallel'),
    'parallel_lora': dict(
        block='parallel', lora=dict(kind='weight', expansion=0.5)
    ),
    'sequential': dict(block='sequential'),
    'sequential_new': dict(block='sequential', student_conv='merged'),
    'sequential_fresh': dict(block='sequential', student_conv='fresh'),
}
NEW_CONVS = ('sequential_new', 'sequential_fresh')
LORA, LORA_ACT = 'lora', 'postsum_lora_act'
SCALER = sorted(
    path.stem for path in (BASES / 'schedules/scaler').glob('*.py')
)
ABRUPT, LEARNED, ACTIVATION = 'abrupt', 'learned_mask', 'lora_activation'
SCHEDULES = (*SCALER, LEARNED)
POLICIES = (*REUSE, LORA)
AXES = (tuple(HOSTS), (ABRUPT, *SCHEDULES), POLICIES, DISTILL)
BLOCK = r'backbone\.layer\d\.0\.'
CONV = rf'{BLOCK}conv1\.((pair\.conv\d\.)?weight|bias|lora\..*)'
TRAINED = dict(
    classifier=r'backbone\..*',
    classifier_norms=(
        rf'backbone\.conv1\.weight|{CONV}|'
        rf'{BLOCK}(conv2|downsample\.0)\.weight'
    ),
    main_conv=CONV,
    published_head=r'.*',
    published_june=rf'{BLOCK}(conv1|downsample)\..*',
    published_classifier_only=r'(?!head\.fc\.weight).*',
    lora=rf'{BLOCK}conv1\.lora\..*',
)
"""What each policy trains, but for branches, as a regular expression."""
FRESH = dict(published_june=rf'{BLOCK}conv1\..*')
"""What each policy does not inherit."""
STEPS, END = 8, 6
"""Iterations of each training, and after which the scaler is 0."""


def makes_sense(host: str, schedule: str, policy: str, *_: str) -> bool:
    """New convolutions have replaced what would have to fade.

    Nor has the pair of ``sequential`` a branch that a mask could leave out.
    Only that pair and one kind of lora have an activation that could fade
    without a branch; that of lora has to. Without lora it cannot train.
    """
    if policy == LORA and 'lora' not in HOSTS[host]:
        return False
    if host in NEW_CONVS:
        return schedule == ABRUPT
    if schedule == ACTIVATION:
        return host in ('sequential', LORA_ACT)
    if host == LORA_ACT:
        return schedule in SCALER
    return (host, schedule) != ('sequential', LEARNED)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = ('host', 'schedule', 'policy', 'distill')
    if set(names) <= set(metafunc.fixturenames):
        rows = combinations(AXES, makes_sense)
        if not metafunc.config.getoption('full_matrix'):
            rows = pairwise(rows)
        metafunc.parametrize(names, rows)


def matches(pattern: str, name: str) -> bool:
    return re.fullmatch(pattern, name) is not None


class Start(Hook):
    """Remember the first iteration: scalers, network and losses.

    Args:
        still: Gates that do not fade.
    """

    priority = 'LOWEST'

    def __init__(self, *still: str) -> None:
        self.still = still
        self.scalers: list[float] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        network = runner.model.architecture
        gates = [
            module.scaler
            for module in network.modules()
            if getattr(module, 'gate', 'lora') not in self.still
        ]
        self.scalers.append(sum(gates) / len(gates))
        if runner.iter == 0:
            self.network = copy.deepcopy(network)

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if runner.iter == 0:
            self.losses = {k: v.detach() for k, v in outputs.items()}


@pytest.fixture
def teacher(classifier_cfg, host) -> nn.Module:
    """A trained teacher of the host's own first stage."""
    torch.manual_seed(0)
    cfg = classifier_cfg(block=HOSTS[host]['block'])
    model = randomise_norms(MODELS.build(cfg))
    nn.init.normal_(model.head.fc.weight)
    return model


@pytest.fixture
def stage(classifier_cfg, teacher, host, tmp_path):
    """Return a stage with presets and a Runner that has not begun."""

    def build(schedule: str, policy: str, distill: str):
        path = tmp_path / 'teacher.pth'
        torch.save(dict(state_dict=teacher.state_dict()), path)
        torch.manual_seed(1)
        algorithm = MODELS.build(
            dict(
                _scope_='mmrazor',
                type='SupernetDistill',
                architecture=classifier_cfg(**HOSTS[host]),
                teacher_ckpt=str(path),
                distiller=distiller(distill),
                **reuse(policy),
            )
        )
        hooks = []
        if schedule != ABRUPT:
            folder = 'schedules/scaler' if schedule in SCALER else 'schedules'
            hook = preset(folder, schedule)['scaler_schedule']
            hooks.append(dict(hook, end=END, by_epoch=False))
        images, samples = batch()
        data = [
            dict(inputs=image, data_samples=sample)
            for image, sample in zip(images, samples, strict=True)
        ]
        # One epoch: MMEngine's loop by iterations sleeps between two of them.
        data *= STEPS
        loader = DataLoader(data, len(images), collate_fn=pseudo_collate)
        only_lora = (host, schedule) == (LORA_ACT, ACTIVATION)
        watch = Start('lora', *['expand'] * only_lora)
        runner = Runner(
            model=algorithm,
            work_dir=str(tmp_path),
            experiment_name=tmp_path.name,
            train_dataloader=loader,
            train_cfg=dict(by_epoch=False, max_iters=STEPS),
            optim_wrapper=dict(
                constructor='TrainableOptimWrapperConstructor',
                optimizer=dict(type='SGD', lr=0.05, weight_decay=1e-2),
            ),
            default_hooks=dict(
                timer=None,
                logger=None,
                param_scheduler=None,
                checkpoint=None,
                sampler_seed=None,
            ),
            custom_hooks=[*hooks, watch],
        )
        return runner, watch

    return build


def test_combination(
    host, schedule, policy, distill, stage, teacher, tmp_path: Path
):
    reference = teacher_copy(teacher)
    runner, watch = stage(schedule, policy, distill)
    algorithm = runner.model
    algorithm.init_weights()
    algorithm._is_init = True
    before = copy.deepcopy(dict(algorithm.architecture.named_parameters()))
    runner.train()

    # The first step's losses, by hand, on copies of the two networks.
    images, samples = batch()
    labels = torch.cat([sample.gt_label for sample in samples])
    student = outputs(watch.network, images)
    expected = {
        f'distill.{name}': value
        for name, value in BY_HAND[distill](
            outputs(reference, images), student, labels
        ).items()
    }
    expected['student.loss'] = F.cross_entropy(student[0], labels)
    expected['loss'] = sum(expected.values())
    assert watch.losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(watch.losses[name], value)

    # Scalers: from 1 to exactly 0, or 0 throughout.
    falling = watch.scalers[: END + 1]
    assert watch.scalers[END:] == [0.0] * (STEPS - END)
    if schedule == ABRUPT:
        assert falling == [0.0] * (END + 1)
    else:
        assert falling[0] == 1
        assert falling == sorted(falling, reverse=True)
        assert len(set(falling)) >= 4
    assert {layer.scaler for _, layer in hosts(algorithm)} == {0.0}

    # What trains has changed, nothing else has, the teacher least of all.
    for name, param in algorithm.architecture.named_parameters():
        trains = '.expand.' not in name and matches(TRAINED[policy], name)
        assert param.requires_grad == trains, name
        assert torch.equal(param, before[name]) != trains, name

    # What is inherited began as the teacher's, what is fresh did not.
    names = dict(reference.named_parameters())
    shared = dict(watch.network.named_parameters()).keys() & names
    shared -= {name for name in shared if '.expand.' in name}
    assert len(shared) > len(names) / 3
    for name in shared:
        fresh = policy in FRESH and matches(FRESH[policy], name)
        start = watch.network.get_parameter(name)
        assert torch.equal(start, names[name]) != fresh, name
    if distill != 'none':
        assert_teacher_is(algorithm, teacher_copy(teacher))


@pytest.mark.parametrize(
    ('host', 'schedule', 'message'),
    [
        *(
            (h, s, r"student_conv='pair'")
            for h in NEW_CONVS
            for s in SCHEDULES
        ),
        ('sequential', LEARNED, "'expand' needs a block with branches"),
        *(
            (h, ACTIVATION, r"'lambda_relu' the block 'sequential'")
            for h in ('postsum', 'postsum_lora', 'parallel')
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_training(
    host, schedule, message, stage
):
    runner, watch = stage(schedule, 'published_head', 'soft_labels')
    with pytest.raises(ValueError, match=message):
        runner.train()
    assert not watch.scalers


@pytest.mark.parametrize('host', [LORA_ACT])
@pytest.mark.parametrize('schedule', [ABRUPT, LEARNED])
def test_an_activation_that_nothing_fades_is_refused_in_the_first_step(
    host, schedule, stage
):
    runner, watch = stage(schedule, LORA, 'soft_labels')
    with pytest.raises(RuntimeError, match='needs a schedule'):
        runner.train()
    assert not hasattr(watch, 'losses')


def test_every_block_and_policy_is_combined():
    assert TRAINED.keys() == set(POLICIES)
    assert {block['block'] for block in HOSTS.values()} == set(BLOCKS)
    convs = {block.get('student_conv', 'pair') for block in HOSTS.values()}
    assert convs == set(STUDENT_CONVS)


def test_the_choice_has_all_pairs():
    rows = combinations(AXES, makes_sense)
    chosen = pairwise(rows)
    assert len(chosen) < len(rows) / 10
    for left in range(4):
        for right in range(left + 1, 4):
            wanted = {(row[left], row[right]) for row in rows}
            assert {(row[left], row[right]) for row in chosen} == wanted
