# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Where the exported config says how images are prepared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.datasets import KFoldDataset
from mmpretrain.registry import DATASETS

from reducenet_mm.export.plain_config import plain_config, plain_files
from tests.test_export.folders import wrapped, write_images

STEPS = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
TEST = ('test_dataloader', 'test_cfg', 'test_evaluator')


def files_of(root: Path | str = 'somewhere') -> dict[str, Any]:
    return dict(type='CustomDataset', data_root=str(root), pipeline=STEPS)


def config(
    classifier_cfg: Callable, dataset: Any, part: str = 'test', **backbone: Any
) -> Config:
    evaluation = {
        f'{part}_dataloader': dict(batch_size=2, dataset=dataset),
        f'{part}_evaluator': dict(type='Accuracy'),
        f'{part}_cfg': dict(fp16=True),
    }
    return Config(dict(model=classifier_cfg(**backbone), **evaluation))


def comments(cfg: Config) -> str:
    lines = plain_files(cfg)['student.py'].splitlines()
    return ' '.join(line[2:] for line in lines if line.startswith('# '))


def paths_of(dataset: Any) -> list[str]:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = DATASETS.build(dataset)
        built.full_init()
    return [built.get_data_info(i)['img_path'] for i in range(len(built))]


@pytest.mark.parametrize('name', ['flat', 'repeated', 'holdout'])
def test_the_images_stay_the_same_where_they_can(
    name: str, classifier_cfg: Callable, tmp_path: Path
) -> None:
    dataset = wrapped(name, files_of(write_images(tmp_path / 'images')))
    cfg = config(classifier_cfg, dataset)
    before = cfg.to_dict()
    written = plain_config(cfg)
    assert set(TEST) <= set(written)
    found = written.test_dataloader.dataset
    assert found.pipeline == STEPS
    assert written.test_dataloader.batch_size == 2
    times = 2 if name == 'repeated' else 1
    assert times * paths_of(found) == paths_of(dataset)
    assert 'other images' not in comments(cfg)
    assert cfg.to_dict() == before


def test_one_data_set_in_several_wrappers_is_itself(
    classifier_cfg: Callable,
) -> None:
    one = wrapped('repeated', files_of())
    one = dict(type='ConcatDataset', datasets=[one])
    written = plain_config(config(classifier_cfg, one))
    assert written.test_dataloader.dataset == files_of()


@pytest.mark.parametrize(
    'dataset',
    [
        dict(type='ConcatDataset', datasets=[files_of(), files_of('other')]),
        dict(type='KFoldDataset', dataset=files_of()),
        dict(type='HoldoutSplits', dataset=files_of()),
    ],
    ids=['several', 'folds', "a user's own"],
)
def test_the_metrics_go_where_images_are_others(
    dataset: dict[str, Any], classifier_cfg: Callable, tmp_path: Path
) -> None:
    cfg = config(classifier_cfg, dataset)
    written = plain_config(cfg)
    assert written.test_dataloader.dataset == files_of()
    assert written.test_evaluator == [] and written.test_cfg == cfg.test_cfg
    assert f'was a {dataset["type"]}, of which' in comments(cfg)
    written.work_dir = str(tmp_path)
    assert Runner.from_cfg(written)  # which wants all three or none


def test_types_may_be_classes(classifier_cfg: Callable) -> None:
    dataset = dict(type=KFoldDataset, dataset=files_of())
    cfg = config(classifier_cfg, dataset)
    cfg.test_dataloader.dataset.type = KFoldDataset
    assert 'was a KFoldDataset, of which' in comments(cfg)


@pytest.mark.parametrize('name', ['flat', 'holdout'])
def test_without_a_test_set_it_is_that_of_validation(
    name: str, classifier_cfg: Callable
) -> None:
    dataset = wrapped(name, files_of())
    cfg = config(classifier_cfg, dataset, 'val')
    cfg.val_cfg.type = 'ValLoop'
    written = plain_config(cfg)
    assert written.val_dataloader == cfg.val_dataloader
    assert written.val_cfg == cfg.val_cfg
    assert written.test_dataloader.dataset.pipeline == STEPS
    assert written.test_dataloader.dataset.type == dataset['type']
    assert written.test_evaluator == cfg.val_evaluator
    assert written.test_cfg == dict(fp16=True)
    assert 'are its validation settings' in comments(cfg)


@pytest.mark.parametrize('data', [None, dict(type='CustomDataset')])
def test_a_config_that_says_nothing_of_images_says_so(
    data: Any, classifier_cfg: Callable
) -> None:
    cfg = Config(dict(model=classifier_cfg()))
    if data is not None:
        cfg = config(classifier_cfg, wrapped('repeated', data))
    assert 'test_dataloader.dataset.pipeline, so add it' in comments(cfg)
    kept = [key for key in TEST if key in plain_config(cfg)]
    assert kept == [key for key in TEST if key in cfg]


def test_a_grey_student_takes_coloured_images_behind_a_split(
    classifier_cfg: Callable,
) -> None:
    cfg = config(classifier_cfg, wrapped('holdout', files_of()), in_channels=1)
    dataset = plain_config(cfg).test_dataloader.dataset
    kinds = [step.type for step in dataset.pipeline]
    assert kinds == ['LoadImageFromFile', 'RandomGrayscale', 'PackInputs']
    assert dataset.dataset.pipeline == dataset.pipeline


def test_other_toolboxes_read_wrapped_sets_their_own_way(
    classifier_cfg: Callable,
) -> None:
    dataset = wrapped('repeated', files_of())
    backbone = dict(type='GraftedBackbone', backbone=dict(type='ResNet'))
    model = dict(type='FCOS', backbone=backbone)
    cfg = config(classifier_cfg, dataset)
    cfg.model, cfg.default_scope = ConfigDict(model), 'mmdet'
    assert plain_config(cfg).test_dataloader.dataset == dataset
