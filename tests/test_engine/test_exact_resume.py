# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A run resumed from any of its checkpoints ends as the run itself did.

Each case trains once, keeping every checkpoint, and then again from one of
them. ``test_tools/test_kill.py`` kills processes instead.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from reducenet_mm.engine.checkpointing import settle_resume

CONFIG = 'configs/reducenet/digits/reducenet8-w16-e4_digits_teacher.py'
EPOCHS = 3
STEPS = 8
"""Iterations of an epoch: 997 images in batches of 128, the last one of 101.
"""

MID_EPOCH = {
    'default_hooks.checkpoint.by_epoch': False,
    'default_hooks.checkpoint.interval': 4,
    'custom_hooks': [dict(type='EMAHook', momentum=0.3)],
}
BY_ITERATION = {
    'default_hooks.checkpoint.by_epoch': False,
    'default_hooks.checkpoint.interval': 2,
    'default_hooks.logger.log_metric_by_epoch': False,
    'log_processor': dict(by_epoch=False),
    'train_cfg': dict(
        _delete_=True, by_epoch=False, max_iters=7, val_interval=2
    ),
    'param_scheduler': None,
}


def train(work_dir: Path, checkpoint: Path | None, options: dict) -> Any:
    """Train from the start or from a checkpoint; return the Runner."""
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(
        {
            'work_dir': str(work_dir),
            'experiment_name': f'{work_dir.parent.name}_{work_dir.name}',
            'model.backbone.base_channels': 4,
            'model.backbone.expansion': 2,
            'model.head.in_channels': 16,
            'train_cfg.max_epochs': EPOCHS,
            'train_cfg.val_interval': 1,
            'param_scheduler.periods': [EPOCHS],
            'train_dataloader.batch_size': 128,
            'default_hooks.logger.interval': 1,
            'default_hooks.checkpoint.interval': 1,
            'default_hooks.checkpoint.max_keep_ckpts': -1,
        }
    )
    cfg.merge_from_dict(copy.deepcopy(options))  # '_delete_' is popped
    for key in cfg.pop('removed', ()):
        cfg.default_hooks.pop(key)
    if checkpoint is not None:
        cfg.load_from, cfg.resume = str(checkpoint), True
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def last(work_dir: Path) -> dict[str, Any]:
    name = Path((work_dir / 'last_checkpoint').read_text()).name
    return torch.load(work_dir / name)


def rows(work_dir: Path) -> list[dict]:
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


def validations(work_dir: Path) -> list[tuple[int, float]]:
    found = [row for row in rows(work_dir) if 'accuracy/top1' in row]
    return [(row['step'], row['accuracy/top1']) for row in found]


def losses(work_dir: Path) -> dict[int, float]:
    return {r['step']: r['loss'] for r in rows(work_dir) if 'loss' in r}


def assert_same_end(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one['meta']['iter'] == other['meta']['iter']
    states = [key for key in one if key.endswith('state_dict')]
    for key in states:
        assert one[key].keys() == other[key].keys()
        for name, value in one[key].items():
            assert torch.equal(value, other[key][name]), f'{key} {name}'
    momenta = [
        [s['momentum_buffer'] for s in end['optimizer']['state'].values()]
        for end in (one, other)
    ]
    assert len(momenta[0]) == len(momenta[1]) > 0
    assert all(map(torch.equal, *momenta))
    assert one.get('param_schedulers') == other.get('param_schedulers')


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict], Path]:
    """``whole(options)``: work dir of a run that was not interrupted."""
    done: dict[str, Path] = {}

    def run(options: dict) -> Path:
        key = json.dumps(options, sort_keys=True)
        if key not in done:
            done[key] = tmp_path_factory.mktemp('whole')
            train(done[key], None, options)
        return done[key]

    return run


@pytest.fixture
def resume(whole, tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """Train, and then once more from one of the checkpoints."""

    def run(name: str, options: dict, **changes: Any) -> SimpleNamespace:
        first = whole(options)
        runner = train(tmp_path, first / name, {**options, **changes})
        return SimpleNamespace(whole=first, part=tmp_path, runner=runner)

    return run


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What runners warn of; MMEngine's loggers do not propagate."""
    messages: list[str] = []  # each once, though there are two handlers
    emit = logging.StreamHandler.emit

    def keep(self: Any, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno == logging.WARNING and message not in messages:
            messages.append(message)
        emit(self, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.StreamHandler, 'emit', keep)
        yield messages


@pytest.mark.parametrize(
    ('name', 'workers', 'validated'),
    [
        ('iter_4.pth', 2, [1, 2, 3]),  # in the middle of epoch 1
        ('iter_12.pth', 0, [2, 3]),  # of epoch 2
        ('iter_8.pth', 0, [1, 2, 3]),  # its last step, before its end
    ],
)
def test_an_interrupted_epoch_is_completed(
    resume, name: str, workers: int, validated: list[int]
) -> None:
    workers_option = {'train_dataloader.num_workers': workers}
    ends = resume(name, MID_EPOCH, **workers_option)
    assert_same_end(last(ends.whole), last(ends.part))
    start = int(name[5:-4])
    whole, part = losses(ends.whole), losses(ends.part)
    assert list(part) == list(range(start + 1, EPOCHS * STEPS + 1))
    assert part == {step: whole[step] for step in part}
    assert len(ends.runner.train_dataloader) == STEPS
    curve = validations(ends.whole)
    assert validations(ends.part) == [v for v in curve if v[0] in validated]


def test_the_runs_compared_average_weights(whole) -> None:
    end = last(whole(MID_EPOCH))
    assert end['ema_state_dict']['steps'] == EPOCHS * STEPS
    name = 'head.fc.weight'
    source = end['ema_state_dict'][f'module.{name}']
    assert not torch.equal(source, end['state_dict'][name])


def test_without_the_hook_the_epoch_would_begin_again(resume) -> None:
    ends = resume('iter_12.pth', MID_EPOCH, removed=['exact_resume'])
    iterations = EPOCHS * STEPS
    assert max(losses(ends.whole)) == iterations
    assert max(losses(ends.part)) == iterations + 4


def test_a_sampler_that_cannot_skip_is_refused(resume) -> None:
    sampler = dict(type='DefaultSampler', shuffle=True)
    with pytest.raises(ValueError, match='DefaultSampler cannot') as caught:
        resume(
            'iter_12.pth',
            MID_EPOCH,
            **{
                'train_dataloader.sampler': sampler,
                'train_dataloader.dataset.pipeline': [dict(type='PackInputs')],
            },
        )
    assert 'after 4 batches of an epoch' in str(caught.value)
    assert "sampler=dict(type='SeededSampler')" in str(caught.value)


def test_other_batches_within_an_epoch_are_refused(resume) -> None:
    size = {'train_dataloader.batch_size': 256}
    with pytest.raises(ValueError, match='cannot be completed') as caught:
        resume('iter_12.pth', MID_EPOCH, **size)
    assert "'epoch_length': 4" in str(caught.value)


def test_other_batches_at_the_end_of_an_epoch_are_warned_of(
    resume, warnings: list[str]
) -> None:
    size = {'train_dataloader.batch_size': 256}
    ends = resume('epoch_1.pth', {}, **size)
    assert last(ends.part)['meta']['iter'] == STEPS + 2 * 4
    assert any('Not resumed exactly' in message for message in warnings)


@pytest.mark.parametrize(
    ('interval', 'validated'), [(1, [1, 2, 3]), (2, [2, 3])]
)
def test_the_validation_that_was_due_comes_first(
    resume, interval: int, validated: list[int]
) -> None:
    changes = {'train_cfg.val_interval': interval}
    ends = resume('epoch_1.pth', {}, **changes)
    assert_same_end(last(ends.whole), last(ends.part))
    curve = validations(ends.whole)
    assert validations(ends.part) == [v for v in curve if v[0] in validated]
    first = rows(ends.part)[0]
    assert ('accuracy/top1' in first) == (interval == 1)


def test_a_finished_run_is_validated_once_more_and_tidied_up(
    resume, tmp_path: Path
) -> None:
    leftover = tmp_path / 'epoch_3.pth.123.partial'
    leftover.write_bytes(b'cut off by a kill')
    ends = resume(f'epoch_{EPOCHS}.pth', {})
    assert losses(ends.part) == {}
    assert validations(ends.part) == validations(ends.whole)[-1:]
    assert not leftover.exists()


def test_a_checkpoint_saved_after_its_validation_is_not_validated_again(
    resume,
) -> None:
    """``save_best`` saves once more when a validation was the best so far."""
    best = {'default_hooks.checkpoint.save_best': 'accuracy/top1'}
    ends = resume('epoch_1.pth', best)  # the first is always the best
    assert_same_end(last(ends.whole), last(ends.part))
    assert [epoch for epoch, _ in validations(ends.part)] == [2, 3]
    scores = [
        last(folder)['message_hub']['runtime_info']['best_score']
        for folder in (ends.whole, ends.part)
    ]
    assert scores[0] == scores[1]


def test_the_best_score_of_the_last_validation_is_kept(
    whole, tmp_path: Path
) -> None:
    """A run killed between its last checkpoint and the validation of it.

    MMEngine writes such a checkpoint again when its score is the best one,
    so the older state of it has to be made here.
    """
    options = {
        'default_hooks.checkpoint.save_best': 'accuracy/top1',
        'train_cfg.max_epochs': 1,
        'param_scheduler.periods': [1],
    }
    first = whole(options)
    wanted = last(first)['message_hub']['runtime_info']
    state = last(first)
    state['train_position']['validated'] = False
    for key in ('best_score', 'best_ckpt', 'last_ckpt'):
        del state['message_hub']['runtime_info'][key]
    torch.save(state, tmp_path / 'cut_off.pth')
    train(tmp_path / 'run', tmp_path / 'cut_off.pth', options)
    assert validations(tmp_path / 'run') == validations(first)
    saved = last(tmp_path / 'run')['message_hub']['runtime_info']
    assert saved['best_score'] == wanted['best_score']
    best = Path(saved['best_ckpt'])
    assert best.name == Path(wanted['best_ckpt']).name
    assert best.parent == tmp_path / 'run' and best.is_file()


def test_training_by_iterations(resume) -> None:
    ends = resume('iter_4.pth', BY_ITERATION)
    assert_same_end(last(ends.whole), last(ends.part))
    assert validations(ends.part) == validations(ends.whole)[1:]
    assert [step for step, _ in validations(ends.part)] == [4, 6, 7]


@pytest.mark.parametrize('name', ['iter_6.pth', 'iter_10.pth'])
def test_training_by_iterations_beyond_an_epoch(resume, name: str) -> None:
    """Worker processes fetch before the seed of the order is restored."""
    options = {
        **BY_ITERATION,
        'train_cfg': dict(
            _delete_=True, by_epoch=False, max_iters=11, val_interval=20
        ),
        'randomness.seed': None,
    }
    workers = {'train_dataloader.num_workers': 2}
    ends = resume(name, options, **workers)
    assert_same_end(last(ends.whole), last(ends.part))
    after = int(name[5:-4])
    expected = losses(ends.whole)
    assert losses(ends.part) == {
        step: expected[step] for step in range(after + 1, 12)
    }


def test_checkpoints_outside_the_work_dir_are_found(tmp_path: Path) -> None:
    """Also where a kill has left ``last_checkpoint`` empty."""
    work_dir = tmp_path / 'run'
    options = {
        'default_hooks.checkpoint.out_dir': str(tmp_path / 'checkpoints'),
        'train_cfg.max_epochs': 1,
    }
    cfg = train(work_dir, None, options).cfg
    (work_dir / 'last_checkpoint').write_text('')
    cfg.update(resume=True, load_from=None)
    found = settle_resume(cfg, print)
    assert found == str(tmp_path / 'checkpoints' / 'run' / 'epoch_1.pth')


def test_a_checkpoint_between_two_updates_is_warned_of(
    tmp_path: Path, warnings: list[str]
) -> None:
    options = {
        'optim_wrapper.accumulative_counts': 3,
        'train_cfg.max_epochs': 2,
    }
    train(tmp_path, None, options)
    (lacking,) = (message for message in warnings if 'lacks' in message)
    assert 'at iteration 8 lacks the gradients' in lacking  # not at the end
    assert 'accumulative_counts=3' in lacking
