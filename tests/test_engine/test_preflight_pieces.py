# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The pieces that the checks before a run are made of."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmpretrain
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import nn

from reducenet_mm.engine import preflight


def test_data_there_or_remote_or_downloaded_passes(tmp_path):
    (tmp_path / 'train').mkdir()
    root = str(tmp_path)
    for dataset in (
        dict(type='CustomDataset', data_root=root, data_prefix='train'),
        dict(type='CustomDataset', data_prefix=dict(img_path=root)),
        dict(type='CustomDataset', data_root='s3://bucket/none'),
        dict(type='CIFAR10', data_root='none'),
        dict(
            type='CustomDataset',
            data_root='none',
            backend_args=dict(
                backend='petrel', path_mapping={'none': 's3://bucket/none'}
            ),
        ),
        dict(
            type='ConcatDataset',
            datasets=[dict(type='CIFAR10', data_root='none', download=True)],
        ),
    ):
        loader = dict(dataset=dataset)
        cfg = Config(dict(default_scope='mmpretrain', loader=loader))
        preflight.check_data_paths(cfg, 'loader')
    dataset = dict(
        type='CIFAR10',
        data_root='none',
        download=False,
        backend_args=dict(backend='local'),
    )
    cfg.loader.dataset = dict(type='ConcatDataset', datasets=[dataset])
    with pytest.raises(
        FileNotFoundError, match=r'loader\.dataset\.datasets\.0\.data_root'
    ):
        preflight.check_data_paths(cfg, 'loader')


@pytest.fixture
def cfg(classifier_cfg: Callable[..., dict]) -> Config:
    """A config of nothing but a model."""
    return Config(dict(default_scope='mmpretrain', model=classifier_cfg()))


def test_random_state_and_log_are_left_alone(cfg):
    logger = logging.getLogger('test_preflight')

    def state() -> tuple:
        return random.getstate(), np.random.get_state()[1].tolist()

    before, torch_before = state(), torch.get_rng_state()
    preflight.check_config(cfg, [], init_weights=True)
    with preflight.no_side_effects():
        random.random(), np.random.rand(), torch.rand(1)
        assert not logger.isEnabledFor(logging.WARNING)
        assert logger.isEnabledFor(logging.ERROR)
    assert state() == before
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert logger.isEnabledFor(logging.WARNING)


def test_config_is_not_changed(cfg):
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    before = cfg.pretty_text
    preflight.check_config(cfg, [], init_weights=True)
    assert cfg.pretty_text == before


class Base(BaseModule):
    def __init__(self, width: int, init_cfg: Any = None) -> None:
        super().__init__(init_cfg)


class HandsOn(Base):
    def __init__(self, depth: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Inherits(HandsOn):
    pass


class UsesItself(Base):
    def __init__(self, **settings: Any) -> None:
        super().__init__(settings.pop('width'))
        self.settings = settings


def function(model: nn.Module, *, part: str = '') -> None:
    pass


def open_function(model: nn.Module, **kwargs: Any) -> None:
    pass


@pytest.mark.parametrize(
    ('target', 'keys'),
    [
        (Base, {'width', 'init_cfg'}),
        (HandsOn, {'depth', 'width', 'init_cfg'}),
        (Inherits, {'depth', 'width', 'init_cfg'}),
        (UsesItself, None),
        (function, {'model', 'part'}),
        (open_function, None),
    ],
)
def test_accepted_keys(target, keys):
    assert preflight.accepted_keys(target) == keys


def test_no_model_of_mmpretrain_has_unknown_keys():
    mim = Path(mmpretrain.__file__).parent / '.mim' / 'configs'
    files = sorted((mim / '_base_' / 'models').glob('*.py'))
    checked = 0
    with preflight.no_side_effects():
        for file in files:
            cfg = Config.fromfile(file)
            cfg.default_scope = 'mmpretrain'
            nodes = preflight.walk_model(cfg)
            preflight.check_model_keys(nodes)
            checked += sum(node.target is not None for node in nodes)
    assert checked > 3 * len(files) > 0


@pytest.fixture
def plain_and_supernet(
    classifier_cfg: Callable[..., dict],
) -> tuple[nn.Module, nn.Module]:
    """The networks without and with branches."""
    cfg = classifier_cfg()
    supernet = MODELS.build(cfg)
    cfg['backbone'] = dict(type='PlainResNet', depth=8, base_channels=4)
    return MODELS.build(cfg), supernet


def prefixed(model: nn.Module) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    return {f'architecture.{key}': value for key, value in state.items()}


def test_check_weights_names_the_likely_cause(plain_and_supernet):
    plain, supernet = plain_and_supernet
    distillation = nn.ModuleDict(dict(architecture=supernet))
    full, student = supernet.state_dict(), plain.state_dict()
    preflight.check_weights(supernet, full, 'a.pth')
    lacking = {key: full[key] for key in list(full)[1:]}
    for model, weights, cause in (
        (supernet, prefixed(supernet), "Use the student's config"),
        (distillation, full, 'holds a plain network'),
        (plain, full, 'has branches that the model lacks'),
        (supernet, student, 'a plain network without branches'),
        (supernet, lacking, '1 missing keys'),
    ):
        with pytest.raises(ValueError, match=cause) as error:
            preflight.check_weights(model, weights, 'a.pth')
        assert "'a.pth'" in str(error.value)


def test_check_checkpoint_reads_wrapped_and_bare_files(
    plain_and_supernet, tmp_path
):
    _, supernet = plain_and_supernet
    path = tmp_path / 'a.pth'
    state = supernet.state_dict()
    torch.save({f'module.{key}': value for key, value in state.items()}, path)
    preflight.check_checkpoint(supernet, str(path))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match='truncated'):
        preflight.check_checkpoint(supernet, str(path))
    torch.save(dict(state_dict=dict(epoch=1)), path)
    with pytest.raises(ValueError, match='no weights'):
        preflight.check_checkpoint(supernet, str(path))
    with pytest.raises(FileNotFoundError, match=re.escape('none.pth')):
        preflight.check_checkpoint(supernet, str(tmp_path / 'none.pth'))


def test_logging_goes_on_after_a_check():
    """MMEngine's loggers remember whether a level was disabled."""
    logger = MMLogger.get_instance('checked')
    with preflight.no_side_effects():
        assert not logger.isEnabledFor(logging.INFO)
    assert logger.isEnabledFor(logging.INFO)
