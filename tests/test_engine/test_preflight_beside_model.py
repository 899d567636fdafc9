# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What stands beside the model is checked before anything is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mmpretrain
import pytest
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import Evaluator
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.runner import Runner
from torch.optim import SGD

from reducenet_mm.datasets import Digits, SeededSampler
from reducenet_mm.engine import preflight
from reducenet_mm.engine.optimizers import TrainableOptimWrapperConstructor

DIGITS = Path(__file__).parents[2] / 'configs/reducenet/digits'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
CROP = dict(type='RandomCrop', crop_size=8, padding=1)


def config(**options: Any) -> Config:
    cfg = Config.fromfile(DIGITS / 'reducenet8-w16-e4_digits_teacher.py')
    cfg.merge_from_dict({k.replace('__', '.'): v for k, v in options.items()})
    return cfg


def check(cfg: Config, loaders: tuple[str, ...] = LOADERS) -> None:
    preflight.check_config(cfg, loaders, init_weights=False)


WRONG = {
    'train_dataloader.dataset.type': ('Digit', "mean 'Digits'"),
    'train_dataloader.dataset.pipeline.1.type': (
        'RandomCrap',
        "mean 'RandomCrop'",
    ),
    'val_dataloader.sampler.type': ('DefaultSampl', "mean 'DefaultSampler'"),
    'val_evaluator.type': ('Acuracy', "mean 'Accuracy'"),
    'optim_wrapper.type': ('OptimWraper', "mean 'OptimWrapper'"),
    'optim_wrapper.optimizer.type': ('SDG', 'no registered optimizer'),
    'param_scheduler.type': ('CosineLR', "mean 'CosineRestartLR'"),
    'val_cfg.type': ('ValLop', "mean 'ValLoop'"),
    'train_dataloader.batch_size': (0, '>= 1, got 0'),
    'val_dataloader.batch_size': ('8', ">= 1, got '8'"),
    'optim_wrapper.constructor': ('Nope', 'optimizer wrapper constructor'),
    'train_cfg.max_epochs': (0, '>= 1, got 0'),
    'train_cfg.max_iters': (1.5, "mean 'max_epochs'"),
    'train_cfg.val_interval': (0, 'cannot come at intervals'),
    'log_level': ('LOUD', 'no level of logging'),
    'randomness.sed': (1, "mean 'seed'"),
    'train_dataloader.batchsize': (8, "mean 'batch_size'"),
    'train_dataloader.sampler.shufle': (True, "mean 'shuffle'"),
    'train_dataloader.dataset.splt': ('train', "mean 'split'"),
    'train_dataloader.dataset.pipeline.1.crop_sise': (8, "mean 'crop_size'"),
    'val_evaluator.topks': (1, "mean 'topk'"),
    'val_cfg.fp_16': (True, "mean 'fp16'"),
    'train_cfg.max_epoch': (1, "mean 'max_epochs'"),
    'optim_wrapper.clip_grads': (1, "mean 'clip_grad'"),
    'optim_wrapper.optimizer.momentun': (0.9, "mean 'momentum'"),
    'param_scheduler.etamin': (0, "mean 'eta_min'"),
    'log_processor.windowsize': (1, "mean 'window_size'"),
    'visualizer.vis_backend': ([], "mean 'vis_backends'"),
    'train_dataloader.sampler.type': (5, 'no registered data sampler'),
    'test_dataloader.sampler.type': ('', 'no registered data sampler'),
    'test_cfg.type': ('random', 'no registered loop'),
    'val_cfg.by_epoch': (True, 'ValLoop takes'),
}

MUST_BE_DICTS: dict[str, Any] = {
    'optim_wrapper.optimizer': 'SGD',
    'train_dataloader.dataset': 'Digits',
    'train_dataloader.dataset.pipeline': ['PackInputs'],
    'train_dataloader.sampler': 5,
    'visualizer.vis_backends': 'LocalVisBackend',
}


@pytest.mark.parametrize('key', WRONG)
def test_what_is_wrong_is_named_by_its_key(key: str) -> None:
    value, hint = WRONG[key]
    cfg = config()
    cfg.merge_from_dict({key: value})
    with pytest.raises(ValueError) as error:
        check(cfg)
    message = str(error.value)
    assert re.search(rf'(^|[ `]){re.escape(key)}(=|`| is| must)', message)
    assert f'{value!r}' in message
    assert hint in message


@pytest.mark.parametrize('key', MUST_BE_DICTS)
def test_what_must_be_a_dict_is_told(key: str) -> None:
    value = MUST_BE_DICTS[key]
    cfg = config()
    cfg.merge_from_dict({key: value})
    (wrong,) = value if isinstance(value, list) else [value]
    match = rf'^{re.escape(key)}(\.0)? must be a dict .*, got {wrong!r}'
    with pytest.raises(ValueError, match=match):
        check(cfg)


def test_what_may_be_a_list_holds_dicts() -> None:
    cfg = config()
    for name in ('val_evaluator', 'param_scheduler'):
        before = cfg[name]
        cfg[name] = [before, 'Accuracy']
        with pytest.raises(ValueError, match=rf'^{name}\.1 must be a dict'):
            check(cfg)
        cfg[name] = before


@pytest.mark.parametrize(
    ('section', 'value', 'message'),
    [
        ('val_evaluator', dict(topk=1), 'val_evaluator=.* has no `type`. Set'),
        ('train_cfg', dict(max_epochs=3), 'has no `type`. Set train_cfg.'),
        ('optim_wrapper', dict(type='OptimWrapper'), 'has no optimizer'),
        ('optim_wrapper', dict(optimizer=None), 'has no optimizer'),
        ('param_scheduler', dict(milestones=[1]), 'has no `type`. Set param'),
        ('visualizer', dict(vis_backends=[]), 'has no `type`. Set visual'),
        ('randomness', dict(deterministic=True), 'has no seed. Set'),
        ('log_level', None, 'log_level=None is no level'),
    ],
)
def test_what_is_missing_is_named(
    section: str, value: Any, message: str
) -> None:
    cfg = config()
    cfg[section] = value
    with pytest.raises(ValueError, match=message):
        check(cfg)


@pytest.mark.parametrize('part', ['dataset', 'sampler'])
def test_a_loader_without_its_parts_is_refused(part: str) -> None:
    cfg = config()
    del cfg.val_dataloader[part]
    with pytest.raises(ValueError, match=f"val_dataloader has no '{part}'"):
        check(cfg)
    check(cfg, ('train_dataloader',))  # the other is not used


@pytest.mark.parametrize('level', ['NOTSET', 'WARN', 'DEBUG', 10])
def test_every_level_of_logging_passes(level: Any) -> None:
    check(config(log_level=level))


class OwnRunner(Runner):
    """Takes a setting more."""

    def set_randomness(
        self, seed: int, deterministic: bool, benchmark: bool
    ) -> None:
        """Take it."""


def test_a_runner_of_ones_own_may_take_more() -> None:
    cfg = config(randomness__benchmark=False)
    with pytest.raises(ValueError, match=r'unknown key randomness\.benchmark'):
        check(cfg)
    cfg.runner_type = OwnRunner
    check(cfg)


STOCK = Path(mmpretrain.__file__).parent / '.mim/configs'


@pytest.mark.parametrize(
    'path',
    [
        'resnet/resnet50_8xb256-rsb-a1-600e_in1k.py',  # several schedulers
        'swin_transformer/swin-tiny_16xb64_in1k.py',
        'beit/benchmarks/beit-base-p16_8xb128-coslr-100e_in1k.py',
        'mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py',
        'mobilenet_v3/mobilenet-v3-small_8xb128_in1k.py',
        'resnet/resnet50_8xb8_cub.py',
    ],
)
def test_configs_of_mmpretrain_pass(path: str) -> None:
    cfg = Config.fromfile(STOCK / path)
    loaders = [name for name in LOADERS if cfg.get(name) is not None]
    assert 'train_dataloader' in loaders
    with preflight.no_side_effects():
        preflight.check_sections(cfg, loaders)
        preflight.check_beside_model(cfg, loaders)


def test_a_transform_that_cannot_be_built_is_named_by_its_key() -> None:
    cfg = config()
    cfg.train_dataloader.dataset.pipeline[1].crop_size = -8
    key = r'^train_dataloader\.dataset\.pipeline\.1: '
    with pytest.raises(ValueError, match=key):
        check(cfg)
    cfg.train_dataloader.dataset.pipeline[1] = dict(type='RandomCrop')
    key = r'^train_dataloader\.dataset\.pipeline\.1: .*crop_size'
    with pytest.raises(TypeError, match=key):
        check(cfg)


def test_keys_that_the_runner_uses_itself_pass() -> None:
    cfg = config()
    cfg.train_cfg = dict(by_epoch=False, max_iters=1.5)
    with pytest.raises(ValueError, match='max_iters. must .*>= 1, got 1.5'):
        check(cfg)
    cfg.train_cfg.max_iters = 5.0
    cfg.param_scheduler = dict(
        type='LinearLR', by_epoch=True, convert_to_iter_based=True
    )
    cfg.train_dataloader.num_batch_per_epoch = 1
    cfg.optim_wrapper.paramwise_cfg = dict(norm_decay_mult=0)
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend', name='mine')]
    check(cfg)
    cfg.train_cfg.type = 'IterBasedTrainLoop'
    with pytest.raises(ValueError, match='both type=.*Leave by_epoch out'):
        check(cfg)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(pipeline='imagenet'),
        dict(pipeline=dict(weak=[dict(type='PackInputs')])),
        dict(datasets=dict(a=dict(type='Digits'))),
        dict(dataset=dict(path='cifar10')),
        dict(datasets=3),
    ],
)
def test_arguments_of_ones_own_data_set_mean_what_they_like(
    arguments: dict[str, Any],
) -> None:
    class Own(Digits):
        def __init__(self, **kwargs: Any) -> None:
            pass

    cfg = config()
    cfg.train_dataloader.dataset = dict(type=Own, **arguments)
    check(cfg)
    wrong = dict(type=Own, pipeline=[dict(type='PakInputs')])
    cfg.train_dataloader.dataset = wrong
    with pytest.raises(ValueError, match=r'pipeline\.0\.type=.PakInputs'):
        check(cfg)


def test_arguments_of_ones_own_evaluator_and_constructor_too() -> None:
    class OwnEvaluator(Evaluator):
        pass

    class OwnConstructor(DefaultOptimWrapperConstructor):
        pass

    for metrics in (['acc'], dict(a=dict(b=1))):
        cfg = config()
        cfg.val_evaluator = dict(type=OwnEvaluator, metrics=metrics)
        check(cfg)
    for optimizer in ('SGD', dict(a=dict(lr=1), b=dict(lr=2))):
        check(optimizing(constructor=OwnConstructor, optimizer=optimizer))


def test_transforms_of_torchvision_are_tried_too() -> None:
    cfg = config()
    wrong = dict(type='torchvision/RandomCrop', sizes=3)
    cfg.train_dataloader.dataset.pipeline[1] = wrong
    with pytest.raises(TypeError, match=r'pipeline\.1: .*sizes'):
        check(cfg)


def test_schedulers_of_several_optimizers_pass() -> None:
    cfg = config()
    cfg.param_scheduler = dict(a=dict(type='LinearLR'), b=[dict(type='X')])
    check(cfg)


def test_a_constructor_of_ones_own_may_read_more_of_the_optimizer() -> None:
    class Own(DefaultOptimWrapperConstructor):
        pass

    own = dict(type='SGD', lr=0.1, of_backbone=0.01)
    check(optimizing(constructor=Own, optimizer=own))
    with pytest.raises(ValueError, match=r'optimizer\.of_backbone=0\.01'):
        check(optimizing(optimizer=own))


def test_it_may_stand_inside_lists_and_wrappers() -> None:
    cfg = config(val_evaluator=[dict(type='Accuracy'), dict(type='None')])
    with pytest.raises(ValueError, match=r'val_evaluator\.1\.type=.None. is'):
        check(cfg)
    wrong = dict(type='Digits', split='train', pipeline=[dict(type='Pack')])
    wrapped = dict(type='ConcatDataset', datasets=[wrong])
    cfg = config()
    cfg.val_dataloader.dataset = ConfigDict(wrapped)
    key = r'val_dataloader\.dataset\.datasets\.0\.pipeline\.0\.type=.Pack.'
    with pytest.raises(ValueError, match=key):
        check(cfg)


def test_all_that_mmengine_can_build_passes() -> None:
    cfg = config()
    cfg.val_evaluator = dict(type='Evaluator', metrics=dict(type='Accuracy'))
    cfg.optim_wrapper = dict(
        type=OptimWrapper, optimizer=dict(type='torch.optim.SGD', lr=0.1)
    )
    cfg.param_scheduler = [dict(type='mmengine.MultiStepLR', milestones=[])]
    check(cfg)
    cfg.optim_wrapper = dict(
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        optimizer=dict(type=SGD, lr=0.1),
    )
    cfg.param_scheduler = None
    cfg.train_dataloader.batch_size = None
    cfg.train_cfg.update(val_interval=1e9, max_epochs=3.0)
    check(cfg)
    cfg.val_evaluator = Evaluator([])
    cfg.train_dataloader.sampler = SeededSampler(range(9))
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.train_cfg.val_interval = 0
    check(cfg)


def test_a_scope_holds_for_all_that_is_inside() -> None:
    cfg = config(default_scope='mmengine')
    cfg.merge_from_dict({'model._scope_': 'mmpretrain'})
    inner = dict(
        type='Digits', split='val', pipeline=[dict(type='PackInputs')]
    )
    loader = dict(cfg.val_dataloader, dataset=inner, sampler=None)
    cfg.val_evaluator = dict(
        type='Evaluator', metrics=dict(type='mmpretrain.Accuracy')
    )
    cfg.val_dataloader = ConfigDict(loader)
    with pytest.raises(ValueError, match='Digits.*in scope .mmengine.'):
        check(cfg, ('val_dataloader',))
    cfg.val_dataloader.dataset._scope_ = 'mmpretrain'
    check(cfg, ('val_dataloader',))


def test_a_toolbox_that_is_missing_is_named() -> None:
    cfg = config(train_dataloader__dataset__type='nowhere.Digits')
    with pytest.raises(ValueError, match="'nowhere' is not installed"):
        check(cfg)


def test_a_test_does_not_ask_how_the_network_was_trained() -> None:
    cfg = config(optim_wrapper__optimizer__type='MyOptimizer')
    cfg.train_dataloader.dataset.pipeline[1].type = 'MyTransform'
    check(cfg, ('test_dataloader',))
    with pytest.raises(ValueError, match='MyTransform'):
        check(cfg)


@pytest.mark.parametrize('sampler', ['InfiniteSampler', 'DefaultSampler'])
def test_seeds_that_no_sampler_hands_on_are_refused(sampler: str) -> None:
    cfg = config(train_dataloader__sampler__type=sampler)
    key = r'train_dataloader\.dataset\.pipeline\.0\.type=.SeedSample. needs'
    with pytest.raises(ValueError, match=key) as error:
        check(cfg)
    assert f"sampler.type='{sampler}'" in str(error.value)
    assert "Set train_dataloader.sampler.type='Seed" in str(error.value)
    cfg.train_dataloader.dataset.pipeline = [CROP, dict(type='PackInputs')]
    check(cfg)


def test_seeds_that_a_wrapper_swallows_are_refused() -> None:
    cfg = config()
    inner = cfg.train_dataloader.dataset
    wrapped = dict(type='RepeatDataset', times=2, dataset=inner)
    cfg.train_dataloader.dataset = ConfigDict(wrapped)
    with pytest.raises(ValueError) as error:
        check(cfg)
    assert 'dataset.dataset.pipeline.0.type=' in str(error.value)
    assert 'train_dataloader.dataset.type=' in str(error.value)
    assert 'Leave the wrapper out' in str(error.value)


def test_what_only_evaluates_is_told_to_leave_seeds_out() -> None:
    cfg = config()
    cfg.val_dataloader.dataset.pipeline.insert(0, dict(type='SeedSample'))
    with pytest.raises(ValueError, match=r'hand them on\. Leave SeedSample'):
        check(cfg)


def optimizing(**options: Any) -> Config:
    cfg = config()
    cfg.optim_wrapper.update(options)
    return cfg


@pytest.mark.parametrize(
    'constructor',
    [
        None,
        'DefaultOptimWrapperConstructor',
        'mmpretrain.LearningRateDecayOptimWrapperConstructor',
        DefaultOptimWrapperConstructor,
    ],
)
def test_roles_that_no_constructor_reads_are_refused(constructor: Any) -> None:
    options = {} if constructor is None else dict(constructor=constructor)
    roles = dict(classifier=0.1)
    cfg = optimizing(paramwise_cfg=dict(roles=roles), **options)
    with pytest.raises(ValueError) as error:
        check(cfg)
    message = str(error.value)
    assert f'optim_wrapper.paramwise_cfg.roles={roles}' in message
    name = constructor or 'DefaultOptimWrapperConstructor'
    assert f'optim_wrapper.constructor={name!r}. Set' in message
    check(cfg, ('test_dataloader',))  # it does not optimize
    cfg.optim_wrapper.constructor = 'TrainableOptimWrapperConstructor'
    check(cfg)


def test_a_typo_beside_roles_is_named() -> None:
    cfg = optimizing(
        constructor='TrainableOptimWrapperConstructor',
        paramwise_cfg=dict(role=dict(classifier=0.1)),
    )
    with pytest.raises(ValueError, match="cfg.role=.* you mean 'roles'"):
        check(cfg)
    cfg.optim_wrapper.constructor = TrainableOptimWrapperConstructor
    with pytest.raises(ValueError, match="cfg.role=.* you mean 'roles'"):
        check(cfg)


@pytest.mark.parametrize(
    'base',
    [DefaultOptimWrapperConstructor, TrainableOptimWrapperConstructor, object],
)
def test_a_constructor_of_ones_own_may_read_what_it_likes(base: type) -> None:
    class Own(base):  # type: ignore[misc, valid-type]
        pass

    check(optimizing(constructor=Own, paramwise_cfg=dict(roles=1, own=2)))


def test_keys_of_another_constructor_pass() -> None:
    check(
        optimizing(
            constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.5),
        )
    )
    check(optimizing(paramwise_cfg=None))
