# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The way from a command line to a Runner's config."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.device import get_device

from reducenet_mm.engine import launch

Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """``load(text, *argv)``: the config of a file with that text."""
    path = tmp_path / 'some_name.py'

    def load_text(text: str, *argv: str) -> Config:
        path.write_text(text)
        parser = argparse.ArgumentParser()
        launch.add_arguments(parser)
        args = launch.parse_args(parser, [str(path), *argv])
        return launch.load_config(args)

    return load_text


@pytest.mark.parametrize(
    ('text', 'argv', 'work_dir'),
    [
        ('', [], './work_dirs/some_name'),
        ("work_dir = 'a'", [], 'a'),
        ("work_dir = 'a'", ['--work-dir', 'b'], 'b'),
        ('', ['--cfg-options', 'work_dir=c'], 'c'),
        ('', ['--cfg-options', 'work_dir=c', '--work-dir', 'b'], 'b'),
    ],
)
def test_work_dir(load, text, argv, work_dir):
    assert load(text, *argv).work_dir == work_dir


def test_options_replace_nested_settings_and_items_of_lists(load):
    text = 'a = dict(b=1, c=[dict(d=2), dict(d=3)])'
    options = ['a.b=[4,5]', 'a.c.1.d=6', 'a.e=x']
    cfg = load(text, '--cfg-options', *options, '--launcher', 'pytorch')
    assert cfg.a == dict(b=[4, 5], c=[dict(d=2), dict(d=6)], e='x')
    assert cfg.launcher == 'pytorch'


def test_local_rank_of_the_launcher_has_priority(load, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '3')
    load('', '--local-rank', '1')
    assert os.environ['LOCAL_RANK'] == '3'
    monkeypatch.delenv('LOCAL_RANK')
    load('', '--local-rank', '1')
    assert os.environ['LOCAL_RANK'] == '1'


def test_loader_defaults_leave_what_the_config_says():
    cfg = Config(
        dict(
            bare=dict(num_workers=2),
            set=dict(
                num_workers=2,
                pin_memory=True,
                persistent_workers=False,
                collate_fn=dict(type='pseudo_collate'),
            ),
            single=dict(num_workers=0, persistent_workers=True),
            absent=None,
        )
    )
    said = cfg.set.copy()
    launch.set_loader_defaults(cfg, ['bare', 'set', 'single', 'absent'])
    assert cfg.set == said
    assert cfg.bare == dict(
        num_workers=2,
        pin_memory=get_device() != 'cpu',
        persistent_workers=True,
        collate_fn=dict(type='default_collate'),
    )
    assert cfg.single.persistent_workers is False
    assert cfg.absent is None


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet'])
def test_batches_of_other_toolboxes_stay_lists(scope):
    loader = dict(num_workers=0)
    cfg = Config(dict(default_scope=scope, loader=loader))
    launch.set_loader_defaults(cfg, ['loader'])
    assert ('collate_fn' in cfg.loader) == (scope == 'mmpretrain')


def test_loader_flags_override_the_config():
    loader = dict(num_workers=2, pin_memory=True, persistent_workers=True)
    cfg = Config(dict(loader=loader))
    launch.set_loader_defaults(
        cfg, ['loader'], pin_memory=False, persistent_workers=False
    )
    assert cfg.loader.pin_memory is False
    assert cfg.loader.persistent_workers is False


@pytest.mark.parametrize('kind', [ValueError, TypeError, FileNotFoundError])
def test_usage_error_is_one_line(kind, capsys, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    with pytest.raises(SystemExit) as stopped, launch.usage_errors('tool'):
        raise kind('first\n  second')
    assert stopped.value.code == 2
    assert capsys.readouterr().err == 'tool: error: first second\n'


def test_usage_error_is_printed_once_on_a_machine(capsys, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '1')
    with pytest.raises(SystemExit), launch.usage_errors('tool'):
        raise ValueError('message')
    assert capsys.readouterr().err == ''


def test_any_other_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), launch.usage_errors('tool'):
        raise ZeroDivisionError


@pytest.mark.skipif(get_device() != 'cpu', reason='allowed with a GPU')
def test_slurm_without_a_gpu_is_refused():
    with pytest.raises(ValueError, match="launcher='slurm'"):
        launch.join_processes(Config(dict(launcher='slurm')))
