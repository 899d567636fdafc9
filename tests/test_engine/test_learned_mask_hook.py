# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A learned mask of the branches, inside real Runners, on real digits."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import Runner
from torch import nn

from reducenet_mm.engine.hooks import LearnedMaskHook
from reducenet_mm.models import ReduceNet
from reducenet_mm.models.supernet import set_gates, student_gates
from tests.test_engine.test_scaler_schedule_hook import (
    assert_teacher_is_fixed,
    log,
    run,
    scalars,
)

HOOK = dict(type='LearnedMaskHook', begin=1, end=3)
KEPT = [3, 3, 3, 3, 3, 2, 2, 1, 1, 0, 0, 0]
"""Branches that are computed: turns end at iterations 5, 7 and 9."""


def mask_of(runner: Runner) -> LearnedMaskHook:
    (hook,) = (h for h in runner.hooks if isinstance(h, LearnedMaskHook))
    return hook


@pytest.fixture
def learned(monkeypatch) -> list[dict[str, float]]:
    """The scores after each iteration of all runs of the test."""
    scores = []
    after = LearnedMaskHook.after_train_iter

    def record(self, runner, *args, **kwargs):
        after(self, runner, *args, **kwargs)
        scores.append(dict(self.scores))

    monkeypatch.setattr(LearnedMaskHook, 'after_train_iter', record)
    return scores


@pytest.fixture
def in_layer(monkeypatch):
    """``in_layer(name, hook)`` watches a layer of the next runs' students."""
    before = LearnedMaskHook.before_train

    def watch(name: str, hook: Any) -> None:
        def register(self, runner):
            before(self, runner)
            layer = runner.model.architecture.backbone.get_submodule(name)
            layer.register_forward_hook(hook)

        monkeypatch.setattr(LearnedMaskHook, 'before_train', register)

    return watch


@pytest.fixture
def amp(monkeypatch):
    """``amp(**scaler)`` gives options for mixed precision, on a CPU too.

    MMEngine's wrapper and PyTorch's scaler work on one, but neither is
    offered there.
    """
    if not torch.cuda.is_available():
        scaler = partial(torch.amp.GradScaler, 'cpu')
        monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', scaler)
        monkeypatch.setattr(
            amp_optimizer_wrapper, 'is_cuda_available', lambda: True
        )

    def options(**scaler: Any) -> dict[str, Any]:
        return {
            'optim_wrapper.type': 'AmpOptimWrapper',
            'optim_wrapper.dtype': 'bfloat16',
            'optim_wrapper.loss_scale': scaler,
            'optim_wrapper.optimizer.lr': 0.0,  # the same network in all
        }

    return options


@pytest.mark.parametrize(
    'block, freeze',
    [
        ('postsum', ['classifier']),
        ('parallel', ['classifier']),
        # No gradient would come to the first branch by itself.
        ('postsum', ['stem', 'second_conv', 'norms', 'classifier']),
    ],
)
def test_a_score_is_the_gradient_by_the_gate(block, freeze, tmp_path, learned):
    options = {'model.norm_stats': 'inherited', 'model.reuse.freeze': freeze}
    runner, watch = run(
        tmp_path / 'run', [HOOK], backbone=dict(block=block), **options
    )
    # The first step once more, by hand: its network is the teacher.
    model = copy.deepcopy(runner.model)
    model.load_teacher(torch.load(runner.cfg.model.teacher_ckpt)['state_dict'])
    model.double().train()
    data = model.data_preprocessor(dict(inputs=watch.inputs[0]), True)
    labels = watch.labels[0]
    expand = student_gates(model.architecture, 'expand')
    assert list(expand) == list(learned[0])

    def loss() -> float:
        student = model.architecture(data['inputs'].double())
        teacher = model.teacher(data['inputs'].double())
        soft = (teacher / 4).softmax(1)
        ratio = soft.log() - (student / 4).log_softmax(1)
        hard = -student.log_softmax(1)[range(len(labels)), labels].mean()
        return float(hard + 16 * (soft * ratio).sum(1).mean())

    set_gates(expand, 1.0)
    at_1 = loss()
    for name, gate in expand.items():
        set_gates({name: gate}, 1 - 1e-6)
        gradient = (at_1 - loss()) / 1e-6
        set_gates({name: gate}, 1.0)
        assert abs(gradient) > 1e-4
        assert learned[0][name] == pytest.approx(-gradient, rel=1e-3)
    # They add up, and stand still once the branch is gone.
    assert learned[1] != learned[0]
    first = mask_of(runner).dropped[0]
    assert learned[3][first] != learned[4][first]
    assert learned[4][first] == learned[11][first]


def test_scores_do_not_depend_on_the_scale_of_the_loss(tmp_path, learned, amp):
    run(tmp_path / 'plain', [HOOK], **amp(enabled=False))
    scaler = dict(init_scale=1024.0, growth_interval=2)
    runner, _ = run(tmp_path / 'scaled', [HOOK], **amp(**scaler))
    assert runner.optim_wrapper.loss_scaler.get_scale() == 1024 * 2**6
    plain, scaled = learned[:12], learned[12:]
    for unscaled, scores in zip(plain, scaled, strict=True):
        assert scores == pytest.approx(unscaled, rel=1e-6)
    assert all(abs(score) > 1e-3 for score in plain[-1].values())


def test_a_step_that_overflows_teaches_nothing(
    tmp_path, learned, amp, in_layer
):
    """One branch alone gets an infinite gradient, in the first step."""
    options = amp(init_scale=1024.0)
    run(tmp_path / 'finite', [HOOK], epochs=4, **options)
    finite = learned[:2]
    learned.clear()
    factors = [float('inf'), 1.0]

    def overflow(module, inputs, output):
        if output.requires_grad:
            factor = factors.pop(0) if factors else 1.0
            output.register_hook(lambda grad: grad * factor)

    in_layer('layer1', overflow)
    runner, _ = run(tmp_path / 'overflow', [HOOK], epochs=4, **options)
    assert runner.optim_wrapper.loss_scaler.get_scale() == 512
    assert set(learned[0].values()) == {0.0}
    for name, score in learned[1].items():
        second = finite[1][name] - finite[0][name]
        assert score == pytest.approx(second, rel=1e-3)
        assert abs(second) > 1e-4


def test_half_precision_does_not_overflow_in_a_score():
    branch = nn.Identity()
    hook = LearnedMaskHook()
    branch.register_forward_hook(hook._watch('branch'))
    output = branch(torch.full((2, 4), 300.0, dtype=torch.float16))
    (300 * output.float()).sum().backward()
    gradient = float(hook._gradients['branch'])
    assert gradient == 8 * 300 * 300  # a half is at most 65504


def test_the_lowest_score_goes_first_until_none_is_left(tmp_path, monkeypatch):
    seen = []
    before = LearnedMaskHook.before_train_iter

    def record(self, runner, *args, **kwargs):
        scores = {name: self.scores[name] for name in self._kept()}
        before(self, runner, *args, **kwargs)
        seen.append((scores, list(self.dropped)))

    monkeypatch.setattr(LearnedMaskHook, 'before_train_iter', record)
    runner, watch = run(tmp_path / 'run', [HOOK])
    assert watch.computed == KEPT
    assert scalars(runner, 'scaler') == pytest.approx(
        [count / 3 for count in KEPT], abs=1e-4
    )
    for iteration, count in ((5, 1), (7, 2), (9, 3)):
        scores, dropped = seen[iteration]
        assert len(dropped) == count
        assert dropped[-1] == min(scores, key=scores.get)
        assert f'Iteration {iteration}: the branch of `{dropped[-1]}`' in log(
            runner
        )
    # Gates are 1 or 0, and 0 outside of training steps.
    for now, (_, dropped) in zip(watch.gates, seen, strict=True):
        for name, value in now.items():
            assert value == (name.removesuffix(' expand') not in dropped)
    assert all(set(now.values()) == {0.0} for now in watch.outside)
    assert watch.evaluated == 0
    assert_teacher_is_fixed(runner, watch)
    network = runner.model.architecture
    watched = [m.expand for m in student_gates(network, 'expand').values()]
    assert [len(m._forward_hooks) for m in watched] == [1, 1, 1]  # our Watch's


def test_a_resumed_run_drops_what_it_would_have_dropped(tmp_path):
    """One branch has gone, two are to go; bit for bit."""
    at = 6
    options: dict[str, Any] = {
        'default_hooks.checkpoint.by_epoch': False,
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.checkpoint.max_keep_ckpts': 9,
    }
    whole, all_of_it = run(tmp_path / 'whole', [HOOK], **options)
    file = tmp_path / 'whole' / f'iter_{at}.pth'
    options.update(load_from=str(file), resume=True)
    rest, watch = run(tmp_path / 'rest', [HOOK], **options)
    assert watch.gates == all_of_it.gates[at:]
    assert watch.losses == all_of_it.losses[at:]
    assert mask_of(rest).scores == mask_of(whole).scores
    assert mask_of(rest).dropped == mask_of(whole).dropped
    ended = whole.model.state_dict()
    for key, value in rest.model.state_dict().items():
        assert torch.equal(value, ended[key]), key


def detach(module, inputs, output):
    return output.detach()


def test_a_branch_that_the_loss_does_not_depend_on(
    tmp_path, learned, in_layer
):
    in_layer('layer2', detach)
    run(tmp_path / 'run', [HOOK], epochs=4)
    first, second, third = learned[0].values()
    assert first == second == 0
    assert abs(third) > 1e-4


def test_a_loss_that_depends_on_no_branch_is_refused(tmp_path, in_layer):
    in_layer('layer3', detach)
    options = {'model.reuse.freeze': []}
    with pytest.raises(RuntimeError, match=r'any of .*layer1.*detached'):
        run(tmp_path / 'run', [HOOK], epochs=4, **options)


def test_the_cost_is_that_of_the_mean_time():
    network = ReduceNet(depth=8, base_channels=2, scaler=0.0)
    expected = LearnedMaskHook(begin=1, end=3).fading_ramps(network, 12, 3)
    assert len(expected) == 3
    # Of 5, 7 and 9.
    assert [ramp.end for _, ramp in expected.values()] == [7, 7, 7]


def test_each_branch_has_an_iteration_to_go_in():
    network = ReduceNet(depth=8, base_channels=2, scaler=0.0)
    hook = LearnedMaskHook(begin=1, end=4, by_epoch=False)
    assert len(hook.fading_ramps(network, 12, None)) == 3
    hook = LearnedMaskHook(begin=1, end=3, by_epoch=False)
    with pytest.raises(ValueError, match='3 branches .* in 2 iterations'):
        hook.fading_ramps(network, 12, None)
