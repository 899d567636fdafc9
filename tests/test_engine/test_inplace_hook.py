# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""In-place training inside real Runners, on real digits."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from reducenet_mm import set_scaler
from reducenet_mm.engine.hooks import InplaceHook
from reducenet_mm.models.checkpoint_views import split_state_dict

CONFIGS = 'configs/reducenet/digits/reducenet8-w16-e4_digits_'
EPOCHS, STEPS = 3, 4
"""Four iterations an epoch: 997 images in batches of 256, the last of 229."""


def run(
    work_dir: Path, name: str = 'inplace-sandwich', **options: Any
) -> Runner:
    cfg = Config.fromfile(f'{CONFIGS}{name}.py')
    narrow = {'base_channels': 4, 'expansion': 2}
    where = 'model.architecture' if 'inplace' in name else 'model'
    cfg.merge_from_dict(
        {
            'work_dir': str(work_dir),
            'experiment_name': f'{work_dir.parent.name}_{work_dir.name}',
            f'{where}.head.in_channels': 16,
            **{f'{where}.backbone.{k}': v for k, v in narrow.items()},
            # The two networks differ from the first step on.
            f'{where}.backbone.zero_init_residual': False,
            'train_cfg.max_epochs': EPOCHS,
            'train_cfg.val_interval': 1,
            'param_scheduler.periods': [EPOCHS],
            'train_dataloader.batch_size': 256,
            'default_hooks.logger.interval': 1,
            'default_hooks.checkpoint.interval': 1,
            'default_hooks.checkpoint.max_keep_ckpts': -1,
            **options,
        }
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


AVERAGED = [
    dict(type='InplaceHook'),
    dict(type='EMAHook', momentum=0.3),
]


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A run with ramp, sandwich and an average, not interrupted."""
    torch.manual_seed(0)
    work_dir = tmp_path_factory.mktemp('whole')
    return run(work_dir, **{'custom_hooks': AVERAGED, 'model.ramp': 0.75})


def rows(work_dir: str | Path) -> list[dict[str, Any]]:
    (log,) = Path(work_dir).glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_resumed_run_ends_bit_for_bit_as_one_not_interrupted(
    whole, tmp_path
):
    """From the end of epoch 1, so in the middle of the ramp."""
    resumed = run(
        tmp_path,
        load_from=f'{whole.work_dir}/epoch_1.pth',
        resume=True,
        **{'custom_hooks': AVERAGED, 'model.ramp': 0.75},
    )
    ends = [
        torch.load(Path(runner.work_dir) / f'epoch_{EPOCHS}.pth')
        for runner in (whole, resumed)
    ]
    for key in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(*(e[key] for e in ends), rtol=0, atol=0)
    curves = [
        {
            (row['step'], key): value
            for row in rows(runner.work_dir)
            for key, value in row.items()
            if 'loss' in key or 'accuracy' in key
        }
        for runner in (whole, resumed)
    ]
    assert set(curves[1]) < set(curves[0])
    assert curves[1] == {key: curves[0][key] for key in curves[1]}
    steps = {step for step, key in curves[1] if key == 'sandwich_0.loss'}
    assert steps == set(range(STEPS + 1, EPOCHS * STEPS + 1))


def test_the_last_position_is_the_runners(whole):
    position = whole.model.position
    assert position.seed == whole.seed == 0
    assert position.iteration == EPOCHS * STEPS - 1
    assert position.max_iters == EPOCHS * STEPS
    assert whole.model.distill_weight() == 1
    whole.model.set_position(seed=0, iteration=2, max_iters=12)
    assert whole.model.distill_weight() == pytest.approx(3 / 9)


def test_both_networks_are_measured_in_every_validation(whole):
    """The average's, as it is the average that is validated."""
    measured = [row for row in rows(whole.work_dir) if 'accuracy/top1' in row]
    assert [row['step'] for row in measured] == [1, 2, 3]
    for row in measured:
        path = f'{whole.work_dir}/epoch_{row["step"]}.pth'
        states = split_state_dict(torch.load(path)['state_dict'])
        for scaler, state in zip((1.0, 0.0), states, strict=True):
            key = 'teacher/accuracy/top1' if scaler else 'accuracy/top1'
            expected = accuracy(whole, state, scaler)
            assert row[key] == pytest.approx(expected, abs=1e-4)
    values = {row['teacher/accuracy/top1'] for row in measured}
    assert len(values) > 1  # it moves
    assert any(
        r['teacher/accuracy/top1'] != r['accuracy/top1'] for r in measured
    )


@METRICS.register_module()
class CountImages(BaseMetric):
    """How many answers there were; ``collect_results`` drops some."""

    count = 0

    def process(self, data_batch, data_samples):
        self.count += len(data_samples)
        self.results += data_samples

    def compute_metrics(self, results):
        count, self.count = self.count, 0
        return dict(images=count)


BOTH = dict(AVERAGED[1], evaluate_on_ema=True, evaluate_on_origin=True)


@pytest.mark.parametrize(
    'hooks',
    [[AVERAGED[0], BOTH], [BOTH, AVERAGED[0]]],
    ids=['before', 'after'],
)
def test_beside_the_average_the_origin_is_validated_too(
    whole, tmp_path, hooks
):
    """MMPretrain's hook does so inside of its ``after_val_epoch``."""
    metrics = [whole.cfg.val_evaluator, dict(type='CountImages')]
    options = {'val_evaluator': metrics, 'model.ramp': 0.75}
    runner = run(tmp_path, custom_hooks=hooks, **options)
    images = len(runner.val_dataloader.dataset)
    measured = [row for row in rows(tmp_path) if 'accuracy/top1' in row]
    expected = [r for r in rows(whole.work_dir) if 'accuracy/top1' in r]
    assert len(measured) == len(expected) == EPOCHS
    for row, alone in zip(measured, expected, strict=True):
        for key in ('images', 'images_origin', 'teacher/images'):
            assert row[key] == images
        for key in ('accuracy/top1', 'teacher/accuracy/top1'):
            assert row[key] == alone[key]
    assert any(
        r['accuracy/top1_origin'] != r['accuracy/top1'] for r in measured
    )


@torch.no_grad()
def test_the_students_answers_stay_its_own(whole):
    """A head writes into the samples that it gets."""
    (batch, *_) = whole.val_dataloader
    answers = whole.model.val_step(batch)
    before = [sample.pred_score.clone() for sample in answers]
    hook = InplaceHook()
    hook.before_val_epoch(whole)
    hook.after_val_iter(whole, 0, batch, answers)
    for sample, score in zip(answers, before, strict=True):
        assert torch.equal(sample.pred_score, score)


def accuracy(runner: Runner, state: dict, scaler: float) -> float:
    """Count right answers of one network, one by one."""
    cfg = copy.deepcopy(runner.cfg.model.architecture)
    cfg.setdefault('data_preprocessor', runner.cfg.data_preprocessor)
    model = MODELS.build(cfg)
    model.load_state_dict(state, strict=scaler == 1)
    set_scaler(model.eval(), scaler)
    right = total = 0
    with torch.no_grad():
        for batch in runner.val_dataloader:
            for sample in model.val_step(batch):
                right += int((sample.pred_label == sample.gt_label).item())
                total += 1
    return 100 * right / total


def test_a_hook_for_a_fixed_teacher_is_refused(tmp_path):
    hooks = [dict(type='SupernetSwitchHook')]
    with pytest.raises(ValueError, match=r"SwitchHook'\), which is for") as e:
        run(tmp_path, custom_hooks=hooks)
    assert "custom_hooks=[dict(type='InplaceHook')]" in str(e.value)


def test_another_model_is_refused(tmp_path):
    hooks = [dict(type='InplaceHook')]
    with pytest.raises(ValueError, match='got ImageClassifier. Leave it out'):
        run(tmp_path, 'teacher', custom_hooks=hooks)


def test_a_run_without_validation_trains_too(tmp_path):
    runner = run(
        tmp_path,
        'inplace-netaug',
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None,
        **{'train_cfg.max_epochs': 1, 'param_scheduler.periods': [1]},
    )
    assert runner.epoch == 1
    (last,) = [row for row in rows(tmp_path) if row['step'] == STEPS]
    assert last['loss'] == pytest.approx(
        last['teacher.loss'] + last['student.loss'], abs=1e-4
    )


@torch.no_grad()
def test_the_teacher_is_measured_in_the_loops_precision(whole, monkeypatch):
    (batch, *_) = whole.val_dataloader
    algorithm = whole.model
    dtypes = []
    monkeypatch.setattr(whole.val_loop, 'fp16', True)
    with algorithm.architecture.head.fc.register_forward_hook(
        lambda module, inputs, output: dtypes.append(output.dtype)
    ):
        hook = InplaceHook()
        hook.before_val_epoch(whole)
        hook.after_val_iter(whole, 0, batch, [])
    assert dtypes == [torch.bfloat16]
